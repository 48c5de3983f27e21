"""The trainer: it learns, resumes bit for bit, stops early, grows levels, and tells when it fails."""

from __future__ import annotations

import inspect
import json
import math
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from chunker.config import GateRule, StackConfig
from chunker.errors import TrainingError, UsageError
from chunker.learning.checkpoint import load_checkpoint, save_checkpoint
from chunker.learning.config import TrainConfig, choose_device, wants_bfloat16
from chunker.learning.corpus import Source, Streams, TextFile, validation_lanes
from chunker.learning.meter import LogPoint
from chunker.learning.stack import Stack, StackState
from chunker.learning.trainer import Trainer

TEXT = inspect.getsource(textwrap).encode() + inspect.getsource(inspect).encode()
BATCH, WINDOW = 4, 12
STEP = BATCH * WINDOW


def source(content, validation=0.0, weight=1.0):
    symbols = np.frombuffer(content, dtype=np.uint8)
    return Source("text", [TextFile("text", len(symbols), Path(), symbols)], weight, validation)


def trainer(steps=30, mode="joint", levels=(8, 6), content=TEXT, validation=0.1, lanes=True, **config):
    """A tiny trainer with a budget of so many steps; everything else as in real ones."""
    defaults: dict[str, Any] = {
        "batch": BATCH,
        "window": WINDOW,
        "piece": 100,
        "validations": 5,
        "precision": "float32",
    }
    plan = TrainConfig(**{"minutes": None, "bytes": steps * STEP, **defaults, **config})
    text = source(content, validation)
    torch.manual_seed(plan.seed)
    stack = Stack(StackConfig(levels=levels, mode=mode, gate=GateRule("rate", 0.3)))
    streams = Streams([text], plan.batch, plan.window, plan.piece, plan.seed)
    return Trainer(stack, streams, plan, validation_lanes([text], [], 400, 100) if lanes else None)


def run(subject, steps=None):
    """Train to the end, or for so many steps; the log points."""
    points: list[LogPoint] = []
    count = 0

    def stop():
        nonlocal count
        count += 1
        return count == steps

    subject.run(points.append, stop, log_seconds=1e9)
    return points


def equal(first, second):
    """Whether two snapshots are the same bit for bit, but for the time they took."""
    (tensors, facts), (others, other_facts) = first, second
    timeless = [json.loads(json.dumps(f)) for f in (facts, other_facts)]
    for each in timeless:
        del each["seconds"]
        for figures in (each["best_figures"], each["previous_figures"]):
            for name in ("seconds", "bytes_per_second", "bits_per_byte", "level_bits_per_byte"):
                figures.pop(name, None)
    assert timeless[0] == timeless[1]
    assert tensors.keys() == others.keys()
    return all(torch.equal(tensors[name], others[name]) for name in tensors)


# ---- learning ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", ["joint", "faithful"])
def test_a_repeated_phrase_is_learnt(mode):
    subject = trainer(
        200 if mode == "joint" else 400, mode, content=b"history " * 1000, learning_rate=0.03, patience=0
    )
    with torch.no_grad():
        for level in subject.stack.levels:
            level.symbol_input.normal_()  # strong inputs, so that few steps are enough
    points = run(subject)
    assert points[0].bits_per_byte > 7
    assert subject.finished
    # 2.75 bits without any history
    assert subject.result()[2]["validation_bits_per_byte"] < 2
    assert all(p.validation_bits_per_byte is not None for p in points[1:])


def test_the_log_says_what_happened():
    subject = trainer(20)
    points = [point.to_json() for point in run(subject)]
    assert [p["bytes"] for p in points] == [STEP, *(STEP * 4 * k for k in (1, 2, 3, 4, 5))]
    assert "validation_bits_per_byte" not in points[0]
    for point in points[1:]:
        assert point["validation"] == {"text": point["validation_bits_per_byte"]}
        assert len(point["rates"]) == 2
        assert len(point["thresholds_bits"]) == 1
        assert point["rates"][0] == 1.0
        assert 0 <= point["rates"][1] <= 1
    assert points[-1]["learning_rate"] == 0
    assert json.loads(json.dumps(points)) == points


def test_bits_per_byte_are_those_of_the_windows_before_they_were_learnt():
    subject = trainer(1, validation=0)
    stack = Stack(subject.stack.config)
    stack.load_state_dict(subject.stack.state_dict())
    streams = Streams(subject.streams.sources, BATCH, WINDOW, 100, 0)
    symbols = torch.from_numpy(streams.next()[0]).long()
    expected = stack.bits(stack(symbols, stack.start(BATCH)), symbols).mean()
    assert run(subject)[0].bits_per_byte == pytest.approx(float(expected), rel=1e-5)


def test_validation_does_not_touch_training():
    with_lanes, without = trainer(20, patience=0), trainer(20, lanes=False)
    run(with_lanes, 19)
    run(without, 19)
    ours, theirs = with_lanes.snapshot()[0], without.snapshot()[0]
    for name in ours:
        assert name.startswith("best/") or torch.equal(ours[name], theirs[name])


def test_a_cold_row_starts_with_an_empty_history(monkeypatch):
    subject = trainer(3, piece=WINDOW, lanes=False)  # every window starts cold
    seen = states_seen(subject, monkeypatch)
    run(subject, 3)
    for state in seen:
        assert all(not level.h.any() for level in state.levels)
        assert all(level.fresh.all() for level in state.levels)


def test_states_are_carried_from_window_to_window(monkeypatch):
    subject = trainer(3, piece=0, lanes=False)
    seen = states_seen(subject, monkeypatch)
    run(subject, 3)
    assert not seen[0].levels[0].h.any()
    assert seen[1].levels[0].h.any(1).all()


def states_seen(subject, monkeypatch):
    """The states that windows start from, as they come."""
    seen: list[StackState] = []
    forward = subject.stack.forward

    def watched(symbols, state):
        seen.append(state)
        return forward(symbols, state)

    monkeypatch.setattr(subject.stack, "forward", watched)
    return seen


# ---- exact resume ------------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [1, 7, 12, 29])
@pytest.mark.parametrize("mode", ["joint", "faithful"])
def test_a_resumed_run_is_the_same_bit_for_bit(tmp_path, mode, cut):
    whole, first = (trainer(30, mode, average=5, patience=0) for _ in range(2))
    run(whole)
    run(first, cut)
    save_checkpoint(tmp_path / "c", *first.snapshot())
    second = trainer(30, mode, average=5, patience=0)
    torch.manual_seed(12345)  # resuming must not depend on what was drawn before
    second.restore(*load_checkpoint(tmp_path / "c"))
    run(second)
    assert second.finished
    assert second.steps == whole.steps == 30
    assert equal(second.snapshot(), whole.snapshot())


@pytest.mark.parametrize("cell", ["rnn", "lstm"])
def test_all_cells_resume(tmp_path, cell):
    def make():
        subject = trainer(8)
        torch.manual_seed(0)
        stack = Stack(StackConfig(levels=(8, 6), cell=cell))
        return Trainer(stack, subject.streams, subject.config, subject.validation)

    whole, first, second = make(), make(), make()
    run(whole)
    run(first, 3)
    save_checkpoint(tmp_path / "c", *first.snapshot())
    second.restore(*load_checkpoint(tmp_path / "c"))
    run(second)
    assert equal(second.snapshot(), whole.snapshot())


def test_a_longer_budget_goes_on_validating(tmp_path):
    first, second = trainer(10), trainer(20)
    run(first, 9)
    assert first.validated == 4
    second.restore(*first.snapshot())
    assert second.validated == 2
    points = run(second)
    assert [p.bytes // STEP for p in points if p.validation] == [12, 16, 20]


# ---- budget, schedule, early stop --------------------------------------------------------------------


def test_the_learning_rate_rises_and_falls():
    config = TrainConfig(minutes=1, learning_rate=1.0, warmup=0.1)
    assert config.learning_rate_at(0) == pytest.approx(0.01)
    assert config.learning_rate_at(0.05) == pytest.approx(0.5)
    assert config.learning_rate_at(0.1) == 1
    assert config.learning_rate_at(0.55) == pytest.approx(0.5)
    assert config.learning_rate_at(1) == 0
    assert TrainConfig(minutes=1, learning_rate=1.0, warmup=0.1, schedule="linear").learning_rate_at(
        0.775
    ) == pytest.approx(0.25)
    assert TrainConfig(minutes=1, learning_rate=1.0, warmup=0, schedule="constant").learning_rate_at(1) == 1


def test_minutes_are_counted_by_the_clock_validation_included(monkeypatch):
    now = 0.0

    def clock():
        nonlocal now
        now += 1.0
        return now

    real = Stack.score_lanes

    def slow(*arguments):
        nonlocal now
        now += 10
        return real(*arguments)

    monkeypatch.setattr("chunker.learning.trainer.time.monotonic", clock)
    monkeypatch.setattr(Stack, "score_lanes", slow)
    subject = trainer(bytes=None, minutes=1)
    points = run(subject)
    assert subject.finished
    assert 60 <= subject.seconds < 75
    assert subject.steps < 50
    # One at the first occasion; then validating had taken more than its share until the end.
    assert [p.validation is not None for p in points[1:]] == [True, True]


def test_training_stops_early_and_keeps_the_best_weights():
    subject = trainer(200, learning_rate=1e-9, validations=50, patience=3, weight_decay=0.0)
    points = run(subject)
    assert subject.finished
    assert subject.steps < 50
    bits = [p.validation_bits_per_byte for p in points if p.validation_bits_per_byte is not None]
    assert subject.best_bits == min(bits)
    assert subject.result()[2]["validation_bits_per_byte"] == min(bits)


def test_averaged_weights_are_what_is_saved():
    subject = trainer(20, average=10, patience=0)
    run(subject, 19)
    live = [p.detach().clone() for p in subject.stack.parameters()]
    subject.best = None  # what would be saved now, not at the best validation
    saved = subject.result()[1]
    for (name, weight), before, mean in zip(
        subject.stack.named_parameters(), live, subject.average, strict=True
    ):
        assert torch.equal(weight, before)
        assert torch.equal(saved[name], mean)
    assert not all(map(torch.equal, live, subject.average))


# ---- faithful mode -----------------------------------------------------------------------------------


def test_levels_grow_one_after_the_other_and_are_frozen(monkeypatch):
    subject = trainer(30, "faithful", levels=(8, 6, 4), patience=0)
    monkeypatch.setattr(subject, "_helped", lambda: True)
    frozen = {}
    grow = subject.stack.grow

    def watched():
        frozen[subject.stack.growing] = {
            name: p.clone() for name, p in subject.stack.levels[subject.stack.growing].named_parameters()
        }
        assert 9 <= subject.steps / (subject.stack.growing + 1) <= 11  # equal parts of the budget
        grow()

    monkeypatch.setattr(subject.stack, "grow", watched)
    points = run(subject)
    assert subject.finished
    assert subject.stack.growing == 2
    assert [len(p.rates) for p in points if p.validation] == [1] * 5 + [2] * 5 + [3] * 5
    config, tensors, _ = subject.result()
    assert config.levels == (8, 6, 4)
    for index, before in frozen.items():
        for name, weight in before.items():
            assert torch.equal(tensors[f"levels.{index}.{name}"], weight)


def test_a_level_that_does_not_help_ends_the_growth_and_is_left_out():
    subject = trainer(30, "faithful", levels=(8, 6, 4), learning_rate=1e-9)
    with torch.no_grad():
        for level in subject.stack.levels:
            level.readout.zero_()  # every level predicts nothing, and stays so
    run(subject)
    assert subject.finished
    assert subject.stack.growing == 1
    config, tensors, figures = subject.result()
    assert config.levels == (8,)
    assert len(figures["rates"]) == 1
    alone = Stack(config)
    alone.load_state_dict(tensors)


# ---- errors ------------------------------------------------------------------------------------------


def test_a_loss_that_is_not_finite_ends_training():
    subject = trainer(20)
    with torch.no_grad():
        subject.stack.levels[0].readout_bias.fill_(math.nan)
    with pytest.raises(TrainingError, match="lower learning rate"):
        run(subject)


@pytest.mark.parametrize("validation", [0.0, 0.2])
@pytest.mark.parametrize("rate", [10.0, 1e9, 1e30])
def test_training_that_diverges_is_an_error(rate, validation):
    """Not a model that is worse than none."""
    with pytest.raises(
        TrainingError, match=r"(diverges: .* bits a byte, after|no longer finite).*lower learning rate"
    ):
        run(trainer(60, learning_rate=rate, validation=validation))


@pytest.mark.parametrize(
    "wrong",
    [
        {"minutes": None},
        {"minutes": 1, "bytes": 1},
        {"minutes": 0},
        {"minutes": math.nan},
        {"batch": 0},
        {"window": 0},
        {"piece": -1},
        {"learning_rate": 0},
        {"learning_rate": math.nan},
        {"clip": 0},
        {"weight_decay": -1},
        {"schedule": "sudden"},
        {"warmup": 1},
        {"average": -1},
        {"patience": -1},
        {"validations": 0},
        {"precision": "float8"},
        {"seed": -1},
    ],
)
def test_configurations_that_make_no_sense_are_refused(wrong):
    with pytest.raises(UsageError):
        TrainConfig(**wrong)


def test_devices_and_precisions():
    assert choose_device("cpu").type == "cpu"
    assert choose_device("auto").type in ("cpu", "cuda")
    for name in ("cuda:99", "abacus"):
        with pytest.raises(UsageError, match="--device auto"):
            choose_device(name)
    cpu = torch.device("cpu")
    assert wants_bfloat16("bfloat16", cpu)
    assert not wants_bfloat16("float32", cpu)
    assert wants_bfloat16("auto", cpu) in (True, False)
    assert not wants_bfloat16("auto", torch.device("meta"))


def test_bfloat16_trains():
    points = run(trainer(60, precision="bfloat16", content=b"abcd" * 500, learning_rate=0.02, patience=0))
    assert points[-1].validation_bits_per_byte < 5
