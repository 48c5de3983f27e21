"""`chunker train` and `chunker evaluate` as a user meets them: refusals, signals, resume, the files left."""

from __future__ import annotations

import inspect
import json
import os
import signal
import subprocess
import sys
import textwrap
from typing import Any

import pytest
from cli_support import environment
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from chunker import learning
from chunker.cli.main import chunker
from chunker.config import NGrams
from chunker.errors import CheckpointError
from chunker.learning.checkpoint import checkpoint_path, load_checkpoint, save_checkpoint
from chunker.learning.trainer import Trainer
from chunker.models import load_model

TEXT = inspect.getsource(textwrap)
TINY = ["--levels", "8,6", "--batch", "4", "--window", "16", "--piece", "100", "--precision", "float32"]
TINY += ["--validations", "4", "--patience", "0", "--threads", "1", "--device", "cpu"]
BUDGET = ["--bytes", str(20 * 64)]


@pytest.fixture
def corpus(tmp_path):
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "a.txt").write_text(TEXT)
    (folder / "b.txt").write_text(TEXT[::-1])
    return folder


# click 8.1 mixes the two streams unless told not to, later versions never do.
APART: dict[str, Any] = (
    {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
)


def call(*arguments):
    return CliRunner(**APART).invoke(chunker, [str(a) for a in arguments])


def train(corpus, model, *more, budget=BUDGET):
    return call("train", corpus, "-o", model, *TINY, *budget, *more)


def one_line(result):
    lines = [line for line in result.stderr.splitlines() if line.startswith("chunker")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return lines[0]


@pytest.fixture
def stop_after(monkeypatch):
    """Send this process a signal in the middle of the n-th step, as `kill` or Ctrl-C would."""

    def arm(steps, number):
        real = Trainer.step

        def step(self):
            real(self)
            if self.steps == steps:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(Trainer, "step", step)

    return arm


def test_a_model_a_log_and_nothing_else_is_left(corpus, tmp_path):
    model = tmp_path / "out" / "m.safetensors"
    model.parent.mkdir()
    result = train(corpus, model)
    assert result.exit_code == 0, result.stderr
    assert sorted(os.listdir(model.parent)) == ["m.safetensors", "m.safetensors.jsonl"]
    points = [
        json.loads(line) for line in (tmp_path / "out" / "m.safetensors.jsonl").read_text().splitlines()
    ]
    assert points[-1]["bytes"] == 20 * 64
    loaded = load_model(model)
    assert loaded.config.levels == (8, 6)
    summary = loaded.summary
    assert summary["bytes"] == 20 * 64
    assert summary["sources"] == [{"name": "corpus", "bytes": 2 * len(TEXT), "weight": 1.0}]
    assert summary["validation_bits_per_byte"] == min(
        p["validation_bits_per_byte"] for p in points if "validation_bits_per_byte" in p
    )
    assert str(tmp_path) not in json.dumps(summary)


def test_a_stack_that_reads_n_grams_and_words_makes_archives(corpus, tmp_path):
    model, archive = tmp_path / "m", tmp_path / "a.nhc"
    assert "goes with --ngrams" in one_line(train(corpus, model, "--ngram-word"))
    result = train(corpus, model, "--ngrams", "2,3", "--ngram-word", "--ngram-rows", 64, "--ngram-width", 4)
    assert result.exit_code == 0, result.stderr
    assert load_model(model).config.ngrams == NGrams((2, 3), 64, 4, word=True)
    assert call("compress", corpus / "a.txt", "-m", model, "--best", "-o", archive).exit_code == 0
    assert call("decompress", archive, "-m", model, "-o", tmp_path / "back").exit_code == 0
    assert (tmp_path / "back").read_text() == TEXT


def test_a_list_gives_more_to_train_and_to_validate_on(corpus, tmp_path):
    table = tmp_path / "table.tsv"
    table.write_text(
        f"path\tweight\tbytes\tuse\n{corpus / 'a.txt'}\t2\t3000\t\n{corpus / 'b.txt'}\t\t\tvalidate\n"
    )
    model = tmp_path / "m"
    result = call("train", "--list", table, "-o", model, *TINY, *BUDGET)
    assert result.exit_code == 0, result.stderr
    summary = load_model(model).summary
    assert summary["sources"] == [{"name": "a.txt", "bytes": 3000, "weight": 2.0}]
    assert set(summary["validation"]) == {"a.txt", "b.txt"}
    result = call("train", "-o", tmp_path / "n", *TINY, *BUDGET)
    assert result.exit_code == 1
    assert "--list" in one_line(result)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_stopped_and_resumed_gives_the_same_model(corpus, tmp_path, stop_after, number, code):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert train(corpus, whole).exit_code == 0
    stop_after(9, number)
    result = train(corpus, cut)
    assert result.exit_code == code
    assert "go on with --resume" in result.stderr
    assert not cut.exists()
    assert (tmp_path / "cut.checkpoint").exists()
    # The options are those of the checkpoint, given again or not.
    result = call("train", corpus, "-o", cut, "--resume", "--levels", "8,6")
    assert result.exit_code == 0, result.stderr
    assert not (tmp_path / "cut.checkpoint").exists()
    assert load_model(cut).fingerprint == load_model(whole).fingerprint
    bytes = [json.loads(line)["bytes"] for line in (tmp_path / "cut.jsonl").read_text().splitlines()]
    assert bytes == sorted(bytes)
    assert bytes[-1] == 20 * 64


def test_the_signal_handlers_are_put_back(corpus, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    train(corpus, tmp_path / "m")
    assert signal.getsignal(signal.SIGTERM) is before


def test_resuming_with_other_options_is_refused(corpus, tmp_path, stop_after):
    stop_after(3, signal.SIGTERM)
    train(corpus, tmp_path / "m")
    for option, message in (
        (("--levels", "8,7"), "levels was 8,6 so far"),
        (("--batch", "5"), "batch was 4 so far"),
        (("--seed", "1"), "seed was 0 so far"),
        (("--minutes", "1"), "budget was in bytes"),
    ):
        result = call("train", corpus, "-o", tmp_path / "m", "--resume", *option)
        assert result.exit_code == 1
        assert message in one_line(result)
    (corpus / "a.txt").write_text("other")
    (corpus / "c.txt").write_text("more")
    (corpus / "b.txt").rename(corpus / "d.txt")
    result = call("train", corpus, "-o", tmp_path / "m", "--resume")
    changed = "corpus/a.txt changed, corpus/c.txt is new, corpus/d.txt is new and 1 more"
    assert f"the corpus is not the one of the checkpoint ({changed}); give the same" in one_line(result)


HOSTILE: dict[str, tuple[list[str], Any]] = {
    "levels": (["stack", "levels"], [10**6, 10**6]),
    "symbols": (["stack", "symbols"], 10**30),
    "a stack that is a list": (["stack"], [1]),
    "a training that is a list": (["training"], [1]),
    "an option that is none": (["training", "unknown"], 1),
    "a gate beyond floats": (["stack", "gate", "value"], 10**400),
}


@pytest.mark.parametrize("claim", HOSTILE)
def test_a_checkpoint_that_claims_more_than_it_holds_is_refused(claim, corpus, tmp_path, stop_after):
    stop_after(3, signal.SIGTERM)
    train(corpus, tmp_path / "m")
    path = checkpoint_path(tmp_path / "m")
    tensors, facts = load_checkpoint(path)
    where, value = HOSTILE[claim]
    found = facts
    for key in where[:-1]:
        found = found[key]
    found[where[-1]] = value
    save_checkpoint(path, tensors, {k: v for k, v in facts.items() if k not in ("format", "version")})
    result = call("train", corpus, "-o", tmp_path / "m", "--resume")
    assert result.exit_code == 1, result.exception
    one_line(result)


def test_what_a_training_writes_is_not_read(corpus, tmp_path, stop_after):
    """`chunker train . -o mine`: neither at first nor with what it left before."""
    elsewhere, inside = tmp_path / "m", corpus / "mine"
    assert train(corpus, elsewhere).exit_code == 0
    assert train(corpus, inside).exit_code == 0
    stop_after(9, signal.SIGTERM)
    assert train(corpus, inside, "--force").exit_code == 143
    result = call("train", corpus, "-o", inside, "--resume")
    assert result.exit_code == 0, result.stderr
    assert load_model(inside).fingerprint == load_model(elsewhere).fingerprint
    assert load_model(inside).summary["sources"] == load_model(elsewhere).summary["sources"]
    result = train(corpus, inside, "--force", "--validate", f"{inside}.jsonl")
    assert "this training writes it; leave it out" in one_line(result)


def test_what_the_contexts_foretell_is_not_read(corpus):
    options = [*TINY, "--levels", "8", "--woken", "--bytes", "1000"]
    options = [each for each in options if each not in ("--piece", "100")]
    for more in ([], ["--force"]):
        result = call("train", corpus, "-o", corpus / "mine", *options, *more)
        assert result.exit_code == 0, result.stderr
        assert load_model(corpus / "mine").summary["sources"][0]["bytes"] == 2 * len(TEXT)


def test_a_larger_budget_may_be_given_on_resume(corpus, tmp_path, stop_after):
    stop_after(3, signal.SIGTERM)
    train(corpus, tmp_path / "m")
    result = call("train", corpus, "-o", tmp_path / "m", "--resume", "--bytes", 30 * 64)
    assert result.exit_code == 0, result.stderr
    assert load_model(tmp_path / "m").summary["bytes"] == 30 * 64


def test_existing_targets_are_refused_without_force(corpus, tmp_path):
    model = tmp_path / "m"
    assert train(corpus, model).exit_code == 0
    before = model.read_bytes()
    assert "--force" in one_line(train(corpus, model))
    assert "is finished" in one_line(train(corpus, model, "--resume"))
    assert model.read_bytes() == before
    assert train(corpus, model, "--force", "--seed", "5").exit_code == 0
    assert model.read_bytes() != before


def test_bad_targets_are_found_before_training(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr(Trainer, "step", lambda self: pytest.fail("trained"))
    assert "does not exist" in one_line(train(corpus, tmp_path / "no" / "m"))
    assert "is a folder" in one_line(train(corpus, tmp_path))
    monkeypatch.chdir(tmp_path)
    assert "is a folder" in one_line(train(corpus, "."))
    assert "one of them" in one_line(train(corpus, tmp_path / "m", "--force", "--resume"))


def test_a_second_training_with_the_same_output_is_refused(corpus, tmp_path, monkeypatch):
    refused = []
    real = Trainer.step

    def step(self):
        real(self)
        if self.steps == 3:
            for more in ([], ["--force"], ["--resume"]):
                refused.append(train(corpus, tmp_path / "m", *more))
            with pytest.raises(CheckpointError, match="another training"):
                learning.train(TEXT.encode(), resume=tmp_path / "m.checkpoint", levels=(8,), bytes=64)

    monkeypatch.setattr(Trainer, "step", step)
    assert train(corpus, tmp_path / "m").exit_code == 0
    for result in refused:
        assert result.exit_code == 1
        assert f"another training (process {os.getpid()}) uses it" in one_line(result)
    assert len(refused) == 3
    assert sorted(os.listdir(tmp_path)) == ["corpus", "m", "m.jsonl"]


def test_a_training_that_was_killed_holds_nothing(corpus, tmp_path):
    code = "import os, sys; from chunker.learning.lock import only_training\n"
    code += "with only_training(sys.argv[1]): os.kill(os.getpid(), 9)"
    killed = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "m.checkpoint"], check=False, env=environment()
    )
    assert killed.returncode == -9
    assert ".m.checkpoint.lock" in os.listdir(tmp_path)
    assert train(corpus, tmp_path / "m").exit_code == 0
    assert sorted(os.listdir(tmp_path)) == ["corpus", "m", "m.jsonl"]


@pytest.mark.parametrize("killed_after", [4, 8])
def test_a_training_that_is_killed_loses_an_interval_at_most(corpus, tmp_path, monkeypatch, killed_after):
    """With a minute a step and a checkpoint every three minutes."""

    class Killed(BaseException):
        pass

    minutes, real = [0.0], Trainer.step

    def step(self):
        if self.steps == killed_after:
            raise Killed
        real(self)
        minutes[0] += 1

    monkeypatch.setattr(Trainer, "step", step)
    monkeypatch.setattr("chunker.learning.run.time.monotonic", lambda: 60 * minutes[0])
    with pytest.raises(Killed):
        raise train(corpus, tmp_path / "m", "--checkpoint-minutes", "2.9").exception
    monkeypatch.undo()
    _, facts = load_checkpoint(tmp_path / "m.checkpoint")
    assert killed_after - 3 <= facts["steps"] <= killed_after


def test_a_failed_save_loses_no_training(corpus, tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("chunker.models.save_model", full)
        assert "No space left" in one_line(train(corpus, tmp_path / "m"))
    monkeypatch.setattr(Trainer, "step", lambda self: pytest.fail("trained again"))
    result = call("train", corpus, "-o", tmp_path / "m", "--resume")
    assert result.exit_code == 0, result.stderr
    assert load_model(tmp_path / "m").summary["bytes"] == 20 * 64


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--rate", "2"], "between 0 and 1"),
        (["--gate", "argmax", "--rate", "0.3"], "--rate goes with"),
        (["--surprise", "1"], "--surprise goes with"),
        (["--minutes", "1"], "either in minutes or in bytes"),
        (["--validation", "1"], "--validation"),
        (["--device", "abacus"], "--device auto"),
        (["--batch", "0"], "at least 1"),
    ],
)
def test_options_that_make_no_sense_are_one_line(corpus, tmp_path, options, message):
    result = train(corpus, tmp_path / "m", *options)
    assert result.exit_code == 1
    assert message in one_line(result)
    assert sorted(os.listdir(tmp_path)) == ["corpus"]


def test_levels_that_are_no_numbers_are_a_usage_error(corpus, tmp_path):
    result = train(corpus, tmp_path / "m", "--levels", "wide")
    assert result.exit_code == 2
    assert "like 128,384" in result.stderr


def test_without_torch_the_extra_is_named(corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("chunker.extras.find_spec", lambda name: None)
    result = train(corpus, tmp_path / "m")
    assert result.exit_code == 1
    assert 'pip install ".[train]"' in one_line(result)


def test_quiet_is_quiet(corpus, tmp_path):
    result = train(corpus, tmp_path / "m", "--quiet")
    assert result.exit_code == 0
    assert result.output == ""


# ---- evaluate ----------------------------------------------------------------------------------------


@pytest.fixture
def model(corpus, tmp_path):
    assert train(corpus, tmp_path / "m").exit_code == 0
    return tmp_path / "m"


def test_evaluate_compares_integers_and_floats(corpus, model):
    result = call("evaluate", model, corpus / "a.txt", corpus / "b.txt", "--json", "--limit", "2000")
    assert result.exit_code == 0, result.stderr
    document = json.loads(result.stdout)
    assert [file["bytes"] for file in document["files"]] == [2000, 2000]
    assert document["total"]["bytes"] == 4000
    for file in document["files"]:
        assert abs(file["loss_percent"]) < 1
        assert file["rates"][0] == 1
        assert file["bits_per_byte"] == pytest.approx(file["float_bits_per_byte"], rel=0.01)
    mean = sum(file["bits_per_byte"] for file in document["files"]) / 2
    assert document["total"]["bits_per_byte"] == pytest.approx(mean, abs=1e-5)


def test_evaluate_without_torch_measures_the_integers(corpus, model, monkeypatch):
    monkeypatch.setattr("chunker.extras.find_spec", lambda name: None)
    document = json.loads(call("evaluate", model, corpus / "a.txt", "--json", "--limit", "300").stdout)
    assert document["total"]["bits_per_byte"] > 0
    assert document["total"]["loss_percent"] is None


def test_evaluate_cuts_lanes_as_asked(corpus, model):
    document = json.loads(
        call("evaluate", model, corpus / "a.txt", "--json", "--lanes", "7", "--limit", "300").stdout
    )
    assert document["total"]["lanes"] == 7
    assert document["total"]["bytes"] == 300


def test_evaluate_goes_on_after_a_bad_file(corpus, model, tmp_path):
    (tmp_path / "empty").touch()
    result = call(
        "evaluate", model, tmp_path / "missing", tmp_path / "empty", corpus / "a.txt", "--limit", "300"
    )
    assert result.exit_code == 1
    assert "a.txt" in result.stdout
    assert "is empty" in result.stderr
    assert "missing" in result.stderr


def test_a_log_tells_the_bits_of_lower_levels_and_is_drawn(corpus, tmp_path):
    from chunker import extras

    model = tmp_path / "m.safetensors"
    if not extras.has("plot"):
        assert '".[plot]"' in one_line(train(corpus, model, "--plot", tmp_path / "curves.png"))
        assert not model.exists()
        assert train(corpus, model).exit_code == 0
    else:
        picture = corpus / "curves.png"
        assert train(corpus, model, "--plot", picture).exit_code == 0
        assert picture.read_bytes().startswith(b"\x89PNG")
        assert train(corpus, model, "--plot", picture, "-f").exit_code == 0
        bytes_read = load_model(model).summary["sources"][0]["bytes"]
        assert bytes_read <= sum(file.stat().st_size for file in corpus.glob("*.txt")), "not the picture"
    points = [json.loads(line) for line in (tmp_path / "m.safetensors.jsonl").read_text().splitlines()]
    assert all(len(point["level_bits_per_byte"]) == 1 for point in points)
    assert 7 < points[0]["level_bits_per_byte"][0] < 9


def test_tensorboard(corpus, tmp_path):
    from chunker import extras

    model, folder = tmp_path / "m.safetensors", tmp_path / "board"
    result = train(corpus, model, "--tensorboard", folder)
    if not extras.has("tensorboard"):
        assert '".[tensorboard]"' in one_line(result)
        return
    assert result.exit_code == 0
    assert [*folder.glob("events.out.tfevents.*")]
