"""Distillation: the student learns from the teacher, the teacher learns nothing, runs resume bit for bit."""

from __future__ import annotations

import inspect
import json
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import chunker
from chunker.config import GateRule, NGrams, StackConfig
from chunker.errors import CheckpointError, ChunkerError, UsageError
from chunker.learning import distill
from chunker.learning.checkpoint import load_checkpoint, save_checkpoint
from chunker.learning.config import DistillConfig, TrainConfig
from chunker.learning.corpus import Lanes, Source, Streams, TextFile, validation_lanes
from chunker.learning.distillation import (
    Distiller,
    fresh_student,
    narrower_student,
    own_student,
    soft_divergence,
)
from chunker.learning.rounds import IterativeDistillation
from chunker.learning.skill import measure_skill
from chunker.learning.stack import Stack

TEXT = inspect.getsource(textwrap).encode()
BATCH, WINDOW = 4, 12
STEP = BATCH * WINDOW


def source(content=TEXT, validation=0.1):
    symbols = np.frombuffer(content, dtype=np.uint8)
    return Source("text", [TextFile("text", len(symbols), Path(), symbols)], 1.0, validation)


def stack(levels=(8, 6), mode="joint", cell="gru", rule=None, **more):
    torch.manual_seed(7)
    gate = rule or GateRule("rate", 0.3)
    built = Stack(StackConfig(levels=levels, mode=mode, cell=cell, gate=gate, **more))
    while built.growing + 1 < len(levels):
        built.grow()
    return built


def settings(steps=20, **more):
    defaults: dict[str, Any] = {
        "batch": BATCH,
        "window": WINDOW,
        "piece": 60,
        "validations": 4,
        "patience": 0,
        "precision": "float32",
    }
    return {"bytes": steps * STEP, **defaults, **more}


def config(steps=20, **more):
    return TrainConfig(minutes=None, **settings(steps, **more))


def lanes(text=None, limit=400) -> Lanes:
    found = validation_lanes([text or source()], [], limit, 100)
    assert found is not None
    return found


def distiller(teacher=None, student=None, objective=None, steps=20, text=None, **more):
    teacher = stack() if teacher is None else teacher
    student = own_student(teacher) if student is None else student
    plan, text = config(steps, **more), text or source()
    streams = Streams([text], plan.batch, plan.window, plan.piece, plan.seed)
    return Distiller(student, streams, plan, objective or DistillConfig(ramp=0.2), teacher, lanes(text))


def weights(subject):
    return {name: t.clone() for name, t in subject.state_dict().items()}


def same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def run(subject, steps=None):
    """Train to the end, or for so many steps."""
    count = 0

    def stop():
        nonlocal count
        count += 1
        return count == steps

    subject.run(stop=stop, log_seconds=1e9)
    return subject


# ---- what the loss is made of ------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["joint", "faithful"])
@pytest.mark.parametrize("levels", [(8,), (8, 6), (8, 6, 4)])
def test_the_teacher_learns_nothing_and_the_student_does(mode, levels):
    teacher = stack(levels, mode)
    before = weights(teacher)
    subject = distiller(teacher)
    started = weights(subject.stack)
    run(subject)
    assert same(weights(teacher), before)
    assert all(p.grad is None for p in teacher.parameters())
    assert not same(weights(subject.stack), started)
    assert subject.regressor.out_features == (sum(levels[1:]) or levels[0])


def test_states_are_held_between_inputs():
    teacher = stack((8, 6, 4))
    window = torch.randint(0, 256, (9, BATCH))
    state = teacher.start(BATCH)
    with torch.no_grad():
        states = teacher(window, state).states
        for t, symbols in enumerate(window):
            state = teacher.step(symbols, state)[1]
            for level, held in zip(state.levels, states, strict=True):
                torch.testing.assert_close(held[t], level.h, atol=1e-5, rtol=1e-4)


def test_the_teacher_carries_its_own_state_and_starts_cold_with_the_student(monkeypatch):
    subject = distiller(piece=0)
    run(subject, 2)
    assert subject.teacher_state.levels[0].h.any()
    torch.testing.assert_close(subject.streams.next()[1], np.zeros(BATCH, bool))
    rows = torch.tensor([True, False, True, False])
    subject._reset(rows)
    for state in (subject.state, subject.teacher_state):
        assert not state.levels[0].h[rows].any()
        assert state.levels[0].h[~rows].any(1).all()


def test_divergence_is_that_of_hinton():
    wanted, found = torch.log_softmax(torch.randn(3, 2, 5), -1), torch.log_softmax(torch.randn(3, 2, 5), -1)
    p = torch.softmax(wanted / 2, -1)
    q = torch.softmax(found / 2, -1)
    expected = 4 * (p * (p / q).log()).sum(-1).mean()
    torch.testing.assert_close(soft_divergence(wanted, found, 2.0), expected)
    assert soft_divergence(wanted, wanted, 1.0).abs() < 1e-6


def test_an_objective_without_a_teacher_is_plain_training():
    from chunker.learning.trainer import Trainer

    plain = DistillConfig(state_weight=0, output_weight=0)
    taught = distiller(objective=plain)
    streams = Streams([source()], BATCH, WINDOW, 60, 0)
    alone = Trainer(own_student(stack()), streams, config(), lanes())
    run(taught)
    run(alone)
    assert same(weights(taught.stack), weights(alone.stack))


def test_the_state_of_the_teacher_is_learnt():
    """With nothing else to learn, the regressor and the student come closer to the teacher's state."""
    subject = distiller(
        objective=DistillConfig(own_weight=0, state_weight=1, output_weight=0, ramp=0),
        steps=150,
        learning_rate=0.02,
    )
    losses = []
    real = subject._loss

    def watched(output, symbols):
        loss = real(output, symbols)
        losses.append(float(loss.detach()))
        return loss

    subject._loss = watched
    run(subject)
    assert np.mean(losses[-20:]) < 0.8 * np.mean(losses[:20])


def test_the_ramp_begins_at_the_students_own_loss():
    subject = distiller(objective=DistillConfig(ramp=0.5, output_weight=100.0))
    alone = distiller(objective=DistillConfig(state_weight=0, output_weight=0))
    run(subject, 1)
    run(alone, 1)
    assert same(weights(subject.stack), weights(alone.stack))


def test_a_student_learns_from_the_teacher_what_the_text_alone_does_not_tell():
    """Random text says little about its distribution; the teacher, which made it, knows it exactly."""
    torch.manual_seed(0)
    teacher = stack((4,), symbols=8)
    with torch.no_grad():
        teacher.levels[0].readout.zero_()
        teacher.levels[0].readout_bias.copy_(torch.tensor([3.0, 2.5, 1.0, 0.5, 0, 0, -1, -1]))
    p = torch.softmax(teacher.levels[0].readout_bias.detach(), 0).numpy().astype(np.float64)
    symbols = np.random.default_rng(0).choice(8, 400, p=p / p.sum()).astype(np.uint8)
    text = source(symbols.tobytes(), 0.2)
    far = np.random.default_rng(1).choice(8, 4000, p=p / p.sum()).astype(np.uint8)
    unseen = lanes(source(far.tobytes(), 1.0), 4000)
    bits = []
    for output in (0.0, 1.0):
        student = fresh_student(teacher.config, 3)
        objective = DistillConfig(own_weight=1 - output, state_weight=0, output_weight=output, ramp=0)
        subject = distiller(teacher, student, objective, 300, text, learning_rate=0.02)
        run(subject)
        bits.append(measure_skill(teacher, subject.stack, unseen))
    alone, taught = bits
    # What each pays above the teacher, which is optimal: 0.004 and 0.026 bits.
    assert 0 < taught.student - taught.teacher < 0.4 * (alone.student - alone.teacher)


# ---- resume ------------------------------------------------------------------------------------------


def equal(first, second):
    (tensors, facts), (others, other_facts) = first, second

    def timeless(value):
        if isinstance(value, dict):
            dropped = ("seconds", "bytes_per_second", "bits_per_byte", "level_bits_per_byte", "before")
            return {k: timeless(v) for k, v in value.items() if k not in dropped}
        return [timeless(v) for v in value] if isinstance(value, list) else value

    assert timeless(json.loads(json.dumps(facts))) == timeless(json.loads(json.dumps(other_facts)))
    return same(tensors, others)


@pytest.mark.parametrize("cut", [1, 19])
@pytest.mark.parametrize("mode", ["joint", "faithful"])
def test_a_resumed_run_is_the_same_bit_for_bit(tmp_path, mode, cut):
    whole, first, second = (distiller(stack(mode=mode), average=5) for _ in range(3))
    run(whole)
    run(first, cut)
    save_checkpoint(tmp_path / "c", *first.snapshot())
    torch.manual_seed(12345)
    second.restore(*load_checkpoint(tmp_path / "c"))
    run(second)
    assert equal(whole.snapshot(), second.snapshot())
    assert {"taught/0.h", "regressor/weight", "norm/mean"} <= second.snapshot()[0].keys()


def iterative(rounds=2, steps=30, teacher=None, **more):
    teacher = stack() if teacher is None else teacher
    plan = config(steps, **{"learning_rate": 0.01, **more})
    return IterativeDistillation(
        teacher, own_student(teacher), [source()], plan, DistillConfig(), lanes(), rounds=rounds
    )


@pytest.mark.parametrize("cut", [5, 14, 25])
@pytest.mark.parametrize("mode", ["joint", "faithful"])
def test_a_collapse_resumes_bit_for_bit_in_every_phase(tmp_path, mode, cut, monkeypatch):
    monkeypatch.setattr("chunker.learning.rounds._GAIN", -100.0)  # go on, come what may
    whole, first, second = (iterative(teacher=stack(mode=mode)) for _ in range(3))
    run(whole)
    run(first, cut)
    assert first.phase == cut // 10
    save_checkpoint(tmp_path / "c", *first.snapshot())
    torch.manual_seed(12345)
    second.restore(*load_checkpoint(tmp_path / "c"))
    run(second)
    assert whole.finished
    assert len(whole.rounds) == 2
    assert equal(whole.snapshot(), second.snapshot())


def test_a_checkpoint_of_another_teacher_is_refused():
    first, second = iterative(), iterative(teacher=stack((8, 7)))
    with pytest.raises(CheckpointError, match="--force"):
        second.restore(*first.snapshot())


# ---- iterative ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["joint", "faithful"])
def test_between_the_rounds_only_the_upper_levels_are_trained(mode, monkeypatch):
    monkeypatch.setattr("chunker.learning.rounds._GAIN", -100.0)
    teacher = stack(mode=mode)
    subject = iterative(teacher=teacher)
    run(subject, 12)
    assert subject.phase == 1
    student = subject.result()[1]
    retrained = subject.stack
    assert retrained.config.gate.rule == "surprise"  # the teacher's followed a rate
    assert torch.equal(retrained.thresholds_bits, teacher.thresholds_bits)
    run(subject, 5)
    assert torch.equal(retrained.thresholds_bits, teacher.thresholds_bits)
    for name, tensor in retrained.state_dict().items():
        if name.startswith("levels.0."):
            assert torch.equal(tensor, student[name])
        elif name == "levels.1.recurrent":
            assert not torch.equal(tensor, teacher.state_dict()[name])


def test_a_collapse_ends_when_nothing_is_gained():
    subject = iterative(learning_rate=1e-9)
    run(subject)
    assert subject.finished
    assert subject.phase == 1  # retraining did not help
    assert subject.result()[0].levels == (8,)


# ---- one call ----------------------------------------------------------------------------------------


def test_a_student_is_a_model_like_any_other(tmp_path):
    teacher = stack()
    teacher.thresholds_bits.fill_(8.0)  # about what an untrained net pays: some inputs it expects, some not
    result = distill(teacher, TEXT, **settings(30, learning_rate=0.02))
    result.save(tmp_path / "student")
    model = chunker.load_model(tmp_path / "student")
    assert model.config.levels == (8,)
    assert len(bytes.fromhex(model.summary["teacher"])) == 32
    skill = model.summary["skill"]
    assert skill["bytes"] > 0
    assert skill["student"] < skill["level0"]
    assert skill["old_before"] < 8 < skill["new_before"]
    assert skill["old_after"] != skill["old_before"]
    assert 0 <= skill["passed_up_after"] <= 1
    for preset in ("default", "best"):
        archive = chunker.compress(TEXT[:3000], model=model, preset=preset)
        assert chunker.decompress(archive, model=model) == TEXT[:3000]
    assert not same(weights(result), weights(own_student(teacher)))


def test_any_student_of_any_teacher(tiny_model):
    for student in (None, StackConfig(levels=(5,), cell="lstm"), stack((6, 5))):
        result = distill(tiny_model, TEXT, student, **settings(2))
        assert result.summary["teacher"] == tiny_model.fingerprint.hex()
        assert result.summary["teacher_name"] == "tiny"


def test_skill_is_nothing_new_for_the_same_net():
    teacher = stack()
    teacher.thresholds_bits.fill_(8.0)
    skill = measure_skill(teacher, own_student(teacher), lanes())
    assert skill.student == pytest.approx(skill.level0)
    assert skill.recovered == pytest.approx(0, abs=1e-4) or skill.teacher >= skill.level0
    assert skill.old_before == pytest.approx(skill.old_after)
    assert skill.passed_up_before == pytest.approx(skill.passed_up_after, abs=0.01)


# ---- errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "wrong",
    [
        {"own_weight": -1},
        {"state_weight": float("nan")},
        {"own_weight": 0, "state_weight": 0, "output_weight": 0},
        {"temperature": 0},
        {"ramp": 2},
    ],
)
def test_objectives_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UsageError):
        DistillConfig(**wrong)


@pytest.mark.parametrize(
    ("teacher", "student", "rounds", "message"),
    [
        ((8, 6), StackConfig(levels=(8,), symbols=300), 1, "same alphabet"),
        ((8,), None, 2, "one level"),
        ((8, 6), StackConfig(levels=(9,)), 2, "level 0"),
        ((8, 6), None, 0, "at least one"),
    ],
)
def test_what_cannot_be_distilled(teacher, student, rounds, message):
    with pytest.raises(ChunkerError, match=message):
        distill(stack(teacher), TEXT, student, rounds=rounds, **settings(2))


@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_a_narrower_student_keeps_the_units_that_weigh_most(cell):
    """Units that nobody hears may go: what is left says the same."""
    ngrams = NGrams((2,), 16, 4)
    net = stack((9, 4), cell=cell, ngrams=ngrams)
    level, silent = net.levels[0], [1, 5, 6]
    with torch.no_grad():
        level.readout[silent] = 0
        level.recurrent[silent] = 0
    symbols = torch.from_numpy(np.frombuffer(TEXT[:80], np.uint8).astype(np.int64)).reshape(20, 4)
    narrow, whole = narrower_student(net, 6, net), narrower_student(net, 9)
    assert (narrow.config.levels, whole.config.levels) == ((6,), (9,))
    own = own_student(net)
    expected = own(symbols, own.start(4)).level_logits[0]
    assert torch.equal(whole(symbols, whole.start(4)).level_logits[0], expected)
    torch.testing.assert_close(narrow(symbols, narrow.start(4)).level_logits[0], expected)
    assert not narrow.levels[0].ngram_table.requires_grad
    assert whole.levels[0].ngram_table.requires_grad
    with pytest.raises(UsageError, match="9 at most"):
        narrower_student(net, 10)


def test_a_fresh_student_keeps_the_teachers_n_grams_where_they_are_alike():
    ngrams = NGrams((1, 3), 16, 4)
    teacher = Stack(StackConfig(levels=(8,), ngrams=ngrams))
    table = torch.nn.init.normal_(teacher.levels[0].ngram_table)
    alike = fresh_student(StackConfig(levels=(5,), ngrams=ngrams), 3, teacher)
    other = fresh_student(StackConfig(levels=(5,), ngrams=NGrams((1, 2), 16, 4)), 3, teacher)
    assert torch.equal(alike.levels[0].ngram_table, table)
    assert not torch.equal(other.levels[0].ngram_table, table)
    before = alike.get_parameter("levels.0.below").detach().clone()
    run(distiller(teacher, alike, DistillConfig(state_weight=0.0), steps=3))
    assert torch.equal(alike.levels[0].ngram_table, table)
    assert not torch.equal(alike.levels[0].below, before)
    assert own_student(teacher).config.ngrams == ngrams
