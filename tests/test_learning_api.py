"""`chunker.learning` from Python: train, distill, resume, save and load, and what a stack tells of a text."""

from __future__ import annotations

import inspect
import json
import math
import textwrap
from dataclasses import replace

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import chunker
from chunker.config import GateRule, NGrams, StackConfig
from chunker.errors import CheckpointError, CorpusError, UsageError
from chunker.learning import LogPoint, Stack, distill, train
from chunker.learning.starting import start_training

TEXT = inspect.getsource(textwrap).encode()
TINY = {"batch": 4, "window": 16, "piece": 100, "precision": "float32", "validations": 4, "patience": 0}
STEP = 64


def tiny(data=TEXT, levels=(8, 6), steps=20, **more):
    return train(data, levels, bytes=steps * STEP, device="cpu", **{**TINY, **more})


def equal(one, other):
    weights, others = one.state_dict(), other.state_dict()
    return weights.keys() == others.keys() and all(
        torch.equal(weights[name], others[name]) for name in weights
    )


@pytest.fixture(scope="module")
def stack():
    return tiny()


def test_a_trained_stack_has_its_shape_and_tells_how_it_was_trained(stack):
    assert isinstance(stack, torch.nn.Module)
    assert not stack.training
    assert stack.config == StackConfig(levels=(8, 6))
    assert stack.summary["bytes"] == 20 * STEP
    assert stack.summary["training"]["batch"] == 4
    assert stack.summary["sources"] == [{"name": "text", "bytes": len(TEXT), "weight": 1.0}]
    json.dumps(stack.summary)


def test_text_and_files_are_the_same_data(stack, tmp_path):
    (tmp_path / "text").write_bytes(TEXT)
    assert equal(tiny(tmp_path / "text"), stack)
    assert equal(tiny([str(tmp_path / "text")]), stack)


def test_every_field_of_the_configurations_is_a_setting():
    built = tiny(steps=2, cell="lstm", mode="faithful", ngrams=NGrams((2,), 16, 4), seed=3, levels=(5,))
    assert built.config == StackConfig((5,), "lstm", "faithful", ngrams=NGrams((2,), 16, 4))
    assert built.summary["training"]["seed"] == 3


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"leevels": 3}, "'leevels' is not known"),
        ({"minutes": 1}, "either in minutes or in bytes"),
        ({"cell": "x"}, "cell 'x'"),
        ({"symbols": 5}, "reads no bytes"),
        ({"device": "abacus"}, "--device auto"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(UsageError, match=message):
        train(TEXT, bytes=100, **settings)


def test_a_missing_corpus_is_named(tmp_path):
    with pytest.raises(CorpusError, match="no such file"):
        train(tmp_path / "nothing", minutes=1)


def test_progress_and_log_tell_the_same(tmp_path):
    points: list[LogPoint] = []
    tiny(progress=points.append, log=tmp_path / "log")
    assert points[-1].bytes == 20 * STEP
    assert points[-1].validation_bits_per_byte is not None
    logged = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()]
    assert logged == [point.to_json() for point in points]


def test_a_saved_stack_comes_back(stack, tmp_path):
    stack.save(tmp_path / "m.safetensors")
    again = Stack.load(tmp_path / "m.safetensors")
    assert equal(again, stack)
    assert again.summary == stack.summary
    assert chunker.load_model(tmp_path / "m.safetensors").fingerprint == stack.to_model().fingerprint


def test_a_built_in_model_loads_by_name():
    assert Stack.load("text").config == Stack.load().config == chunker.load_model("text").config


def test_a_stack_compresses(stack, tmp_path):
    archive = chunker.compress(TEXT[:2000], model=stack, preset="best")
    stack.save(tmp_path / "m.safetensors")
    assert chunker.decompress(archive, model=tmp_path / "m.safetensors") == TEXT[:2000]


# ---- resume ------------------------------------------------------------------------------------------


def interrupted(path, steps, **more):
    """A run that was stopped after so many steps; its checkpoint lies at the path."""
    settings = {"levels": (8, 6), "bytes": 20 * STEP, **TINY, **more}
    run = start_training(TEXT, settings, device="cpu", resume=path)
    left = iter(range(steps - 1))
    assert not run.run(stop=lambda: next(left, None) is None)


def test_a_resumed_run_gives_the_same_stack(stack, tmp_path):
    path = tmp_path / "c"
    interrupted(path, 9)
    assert path.exists()
    again = train(TEXT, resume=path, device="cpu")  # all settings are the checkpoint's
    assert not path.exists()
    assert equal(again, stack)


def test_a_resumed_run_may_get_a_larger_budget_but_nothing_else(tmp_path):
    interrupted(tmp_path / "c", 3)
    for settings, message in (
        ({"levels": (8, 7)}, "levels was 8,6 so far"),
        ({"batch": 5}, "batch was 4 so far"),
        ({"minutes": 1}, "budget was in bytes"),
        ({"validate": [__file__]}, r"validate on is not that .*\(test_learning_api.py is new\)"),
    ):
        with pytest.raises(CheckpointError, match=message):
            train(TEXT, resume=tmp_path / "c", device="cpu", **settings)
    with pytest.raises(CheckpointError, match=r"corpus is not the one .*\(text changed\)"):
        train(TEXT[::-1], resume=tmp_path / "c", device="cpu")
    with pytest.raises(CheckpointError, match="another kind of run"):
        distill(tiny(steps=1), TEXT, resume=tmp_path / "c", device="cpu")
    assert train(TEXT, bytes=30 * STEP, resume=tmp_path / "c", device="cpu").summary["bytes"] == 30 * STEP


def test_training_may_begin_with_a_models_weights(stack, tmp_path):
    still = {"steps": 1, "learning_rate": 1e-30}
    stack.save(tmp_path / "model")
    for init in (stack, stack.to_model(), tmp_path / "model"):
        begun = tiny(levels=None, init=init, **still)
        assert begun.config == stack.config
        for mine, theirs in zip(begun.parameters(), stack.parameters(), strict=True):
            assert torch.equal(mine, theirs)
        assert begun.summary["init"] == stack.to_model().fingerprint.hex()
    assert not equal(tiny(init=stack), stack)
    assert "init" not in stack.summary


def test_a_training_may_begin_with_a_model_of_other_n_grams():
    still = {"steps": 1, "learning_rate": 1e-30}
    begun = tiny(ngrams=NGrams((2, 3), 16, 4))
    more = NGrams((2, 3, 6), 16, 4, word=True)
    told = tiny(levels=None, init=begun, ngrams=more, **still)
    assert told.config == replace(begun.config, ngrams=more)
    weights = dict(told.named_parameters())
    for name, weight in begun.named_parameters():
        mine = weights[name][: len(weight)] if name == "levels.0.ngram_table" else weights[name]
        assert torch.allclose(mine, weight, atol=1e-20)
    assert told.bits_per_byte(TEXT) == pytest.approx(begun.bits_per_byte(TEXT), abs=1e-4)
    first = tiny(levels=None, init=tiny(), ngrams=more, **still)
    assert first.config.ngrams == more


def test_a_training_may_begin_with_a_model_of_fewer_levels():
    still = {"steps": 1, "learning_rate": 1e-30}
    begun = tiny(levels=(8,))
    grown = tiny(levels=(8, 6), gate=GateRule("word"), init=begun, **still)
    assert grown.config == replace(begun.config, levels=(8, 6), gate=GateRule("word"))
    for mine, weight in zip(grown.level(0).parameters(), begun.level(0).parameters(), strict=True):
        assert torch.equal(mine, weight)
    assert grown.bits_per_byte(TEXT) == pytest.approx(begun.bits_per_byte(TEXT), abs=1e-4)
    assert tiny(levels=(8, 6), init=begun).bits_per_byte(TEXT) < begun.bits_per_byte(TEXT)


def test_a_tuned_model_resumes_without_the_one_it_began_with(stack, tmp_path):
    whole = tiny(init=stack)
    run = start_training(TEXT, {"bytes": 20 * STEP, **TINY}, device="cpu", resume=tmp_path / "c", init=stack)
    left = iter(range(6))
    assert not run.run(stop=lambda: next(left, None) is None)
    with pytest.raises(CheckpointError, match="began with another model"):
        train(TEXT, resume=tmp_path / "c", device="cpu", init=whole)
    again = train(TEXT, resume=tmp_path / "c", device="cpu")
    assert equal(again, whole)
    assert again.summary["init"] == whole.summary["init"]


def test_what_a_training_cannot_begin_with_is_refused(stack):
    with pytest.raises(UsageError, match="levels is 8,6 in the model to begin with"):
        tiny(levels=(8, 7), init=stack)
    with pytest.raises(UsageError, match="gate is"):
        tiny(levels=(8, 6, 4), gate=GateRule("word"), init=stack)
    with pytest.raises(UsageError, match="begin with a joint one"):
        tiny(levels=None, init=tiny(mode="faithful", steps=8))
    with pytest.raises(UsageError, match=r"has 16 rows of 4 for each n-gram"):
        tiny(levels=None, init=tiny(ngrams=NGrams((2,), 16, 4)), ngrams=NGrams((2,), 32, 4))


# ---- what a stack tells of a text --------------------------------------------------------------------


def test_surprise_is_what_steps_tell(stack):
    text = TEXT[:60]
    surprise = stack.surprise(text)
    assert surprise.levels.shape == surprise.received.shape == (2, 60)
    assert surprise.received[0].all()
    assert surprise.received[1, 0]  # the first symbol goes up to every level
    state = stack.start(1)
    log_probs = stack.first(state)
    for t, byte in enumerate(text):
        assert surprise.bits[t] == pytest.approx(-float(log_probs[0, byte].detach()) / math.log(2), rel=1e-4)
        log_probs, state = stack.step(torch.tensor([byte]), state)
    np.testing.assert_allclose(
        surprise.levels[-1], surprise.bits, rtol=1e-4
    )  # joint: the highest is the whole


def test_bits_per_byte_is_the_mean_surprise_of_one_lane(stack):
    assert stack.bits_per_byte(TEXT[:500], lanes=1) == pytest.approx(
        stack.surprise(TEXT[:500]).bits.mean(), rel=1e-5
    )
    assert stack.bits_per_byte("é") == pytest.approx(stack.bits_per_byte("é".encode()))


def test_what_is_no_text_is_refused(stack):
    with pytest.raises(CorpusError, match="empty"):
        stack.bits_per_byte(b"")
    assert stack.surprise(b"").levels.shape == (2, 0)
    for wrong in ([256], [-1], [[1]], [0.5]):
        with pytest.raises(UsageError, match="from 0 to 255"):
            stack.surprise(wrong)
    with pytest.raises(UsageError, match="reads no bytes"):
        Stack(StackConfig(levels=(4,), symbols=5)).bits_per_byte(b"x")


def test_an_interrupted_growth_is_saved_without_the_levels_that_are_not_trained(tmp_path):
    built = Stack(StackConfig(levels=(5, 4), mode="faithful"))
    built.save(tmp_path / "m")
    assert Stack.load(tmp_path / "m").config.levels == (5,)
