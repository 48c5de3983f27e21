"""Growing: level by level until nothing is gained; and the float stack beside the histories of its integer
model."""

from __future__ import annotations

import doctest
import math
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from test_stack import CELLS, small, symbols

from chunker.config import GateRule
from chunker.data import Lag20, Nested, stream
from chunker.errors import CorpusError, UsageError
from chunker.learning import growing
from chunker.learning.growing import GrowConfig, LevelReport, _Grower, grow
from chunker.learning.stack import StackState

QUICK = GrowConfig(
    width=12,
    gate=GateRule("surprise", 0.5),
    lanes=8,
    window=3,
    upper_window=3,
    max_steps=200,
    check_every=20,
)
NESTED = Nested(fillers=4, words=3)


def drawn(task, count, seed=0):
    return stream(task, count, np.random.default_rng(seed)).symbols


@pytest.fixture(scope="module")
def lag20():
    """Two levels, grown on 120 sequences, and the reports."""
    return grow(drawn(Lag20(), 120), Lag20().symbols, QUICK)


@pytest.fixture(scope="module")
def nested():
    """Three levels, grown on 150 sequences, and the reports."""
    return grow(drawn(NESTED, 150), NESTED.symbols, QUICK)


# ---- the stop rule ----------------------------------------------------------------------------------


def test_chance_keeps_one_level():
    chance = np.random.default_rng(0).integers(0, 4, 2000)
    stack, reports = grow(chance, 4, replace(QUICK, max_steps=120))
    assert len(stack.config.levels) == 1
    assert [report.kept for report in reports] == [True, False]
    assert abs(reports[0].gain) < 0.02
    assert reports[1].gain < QUICK.gain


def test_the_lag_keeps_two_levels(lag20):
    stack, reports = lag20
    assert len(stack.config.levels) == 2
    assert [report.kept for report in reports] == [True, True, False]
    assert min(report.gain for report in reports[:2]) > QUICK.gain >= reports[2].gain
    # of a case's 22 symbols level 0 passes on its first, a or x, and the class; level 1 knows the class
    assert 2 / 22 <= reports[1].rate < 3 / 22
    assert 0.4 < reports[1].unpredicted < 0.7


def test_regularities_within_regularities_keep_three_levels(nested):
    stack, reports = nested
    assert len(stack.config.levels) == 3
    assert [report.kept for report in reports] == [True, True, True, False]


def test_growing_ends_with_the_most_levels(nested):
    stack, reports = grow(drawn(NESTED, 150), NESTED.symbols, replace(QUICK, max_levels=2))
    assert len(stack.config.levels) == 2
    assert [report.kept for report in reports] == [True, True]
    assert reports[0] == nested[1][0]


def test_growing_ends_when_nothing_is_passed_on():
    stack, reports = grow(np.arange(800) % 4, 4, replace(QUICK, gain=0.0))
    assert len(stack.config.levels) == len(reports) == 1
    assert reports[0].unpredicted == 0


def test_growing_ends_with_the_time():
    stack, reports = grow(drawn(Lag20(), 60), 24, replace(QUICK, max_seconds=1e-6))
    assert len(stack.config.levels) == len(reports) == 1
    assert reports[0].steps == 1


def test_the_reports_fit_together(nested):
    _, reports = nested
    first = reports[0]
    assert first.rate == 1
    assert first.bits_before == pytest.approx(first.inputs * math.log2(NESTED.symbols))
    for report in reports:
        assert report.rate == report.inputs / first.inputs
        assert 0 < report.steps <= QUICK.max_steps
        assert report.gain == 1 - report.bits / report.bits_before
        assert report.kept == (report.gain > QUICK.gain)
    for below, above in pairwise(reports):
        assert above.inputs == round(below.unpredicted * below.inputs)
        assert 0 < above.bits_before <= below.bits


def test_a_grown_stack_is_complete_and_frozen(lag20):
    stack, _ = lag20
    assert stack.growing == 1
    assert not any(parameter.requires_grad for parameter in stack.parameters())
    assert stack.thresholds_bits.tolist() == [0.5]


def test_the_seed_decides():
    short = replace(QUICK, max_steps=40)
    (one, first), (same, again), (other, _) = (
        grow(drawn(Lag20(), 30), 24, replace(short, seed=seed)) for seed in (0, 0, 1)
    )
    assert first == again
    for ours, theirs in zip(one.state_dict().values(), same.state_dict().values(), strict=True):
        assert torch.equal(ours, theirs)
    assert not torch.equal(one.levels[0].readout, other.levels[0].readout)


def test_the_example_runs():
    assert doctest.testmod(growing).failed == 0
    assert "GrowConfig(width=8" in (grow.__doc__ or "")


def test_every_level_is_told_as_it_ends():
    told: list[LevelReport] = []
    _, reports = grow(drawn(Lag20(), 30), 24, replace(QUICK, max_steps=40), told.append)
    assert told == reports


def test_growing_ends_with_two_levels_that_are_enough():
    asked: list[int] = []

    def enough(stack):
        asked.append(len(stack.config.levels))
        return True

    stack, reports = grow(drawn(NESTED, 150), NESTED.symbols, QUICK, enough=enough)
    assert asked == [2]
    assert len(stack.config.levels) == len(reports) == 2


def test_what_is_passed_on_is_what_the_stack_receives():
    """The grower runs each level on its own inputs alone; the whole stack over all symbols agrees."""
    grower = _Grower(drawn(NESTED, 150), NESTED.symbols, replace(QUICK, max_steps=30), print, bool)
    inputs = [grower._all()]
    for _ in range(3):
        grower._train(inputs[-1])
        bits, passed = grower._read(inputs[-1])
        inputs.append(passed)
        grower.stack.grow()
    with torch.no_grad():
        output = grower.stack(grower.lanes, grower.stack.start(QUICK.lanes))
    for events, mine in zip(output.events, inputs, strict=True):
        received = torch.zeros_like(events)
        for row in range(QUICK.lanes):
            received[mine.at[mine.at[:, row] >= 0, row], row] = True
        assert torch.equal(received, events)
    trained = replace(output, level_logits=output.level_logits[:-1])
    held = output.events[2].clone()
    held[: grower.cut] = False
    torch.testing.assert_close(bits, grower.stack.bits(trained, grower.lanes).t()[held.t()])


def test_level_0_cools():
    symbols = drawn(Lag20(), 30)
    for cool in (0, 30):
        _, reports = grow(symbols, 24, replace(QUICK, max_levels=1, cool=cool, patience=1, least=100.0))
        assert reports[0].steps == QUICK.check_every + cool


# ---- refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 15])
def test_a_stream_that_is_too_short_is_refused(count):
    with pytest.raises(CorpusError, match=f"{count} symbols"):
        grow(np.zeros(count, dtype=np.int64), 3, QUICK)


def test_the_shortest_stream_grows():
    stack, _ = grow(np.arange(16) % 3, 3, replace(QUICK, max_steps=2))
    assert len(stack.config.levels) >= 1


@pytest.mark.parametrize(
    "fields",
    [
        {"gate": GateRule("rate", 0.2)},
        {"max_levels": 0},
        {"window": 0},
        {"upper_window": 0},
        {"lanes": 0},
        {"patience": 0},
        {"upper_patience": 0},
        {"check_every": 0},
        {"max_steps": 0},
        {"held_out": 0.0},
        {"held_out": 1.0},
        {"gain": -0.1},
        {"gain": 1.0},
        {"restart": 1.0},
        {"restart": -0.1},
        {"least": -0.1},
        {"cool": -1},
        {"upper_learning_rate": 0.0},
        {"learning_rate": 0.0},
        {"learning_rate": math.nan},
        {"max_seconds": 0.0},
    ],
    ids=str,
)
def test_growth_that_makes_no_sense_is_refused(fields):
    with pytest.raises(UsageError):
        GrowConfig(**fields)


@pytest.mark.parametrize("fields", [{"width": 0}, {"cell": "x"}], ids=str)
def test_a_stack_that_cannot_be_is_refused(fields):
    with pytest.raises(UsageError):
        grow(np.zeros(100, dtype=np.int64), 3, replace(QUICK, **fields))


# ---- histories --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["lag20", "nested"])
def test_the_integer_model_receives_what_the_float_stack_receives(name, request):
    stack, _ = request.getfixturevalue(name)
    fresh = drawn({"lag20": Lag20(), "nested": NESTED}[name], 30, seed=1)
    with torch.no_grad():
        output = stack(torch.from_numpy(fresh).unsqueeze(1), stack.start(1))
    history = stack.compress_history(fresh)
    rates = history.rates
    assert all(above < 0.7 * below for below, above in pairwise(rates))
    # rounded to integers, a prediction close to the threshold may fall on its other side
    for events, level in zip(output.events, history.levels, strict=True):
        float_times = set(events[:, 0].nonzero()[:, 0].tolist())
        assert len(float_times ^ set(level.times.tolist())) <= 0.03 * len(float_times)


def test_a_stack_expands_what_it_compressed(nested):
    stack, _ = nested
    fresh = drawn(NESTED, 30, seed=2)
    history = stack.compress_history(fresh)
    assert len(history.levels[-1]) < 0.2 * len(fresh)
    for known in (history, history.top):
        assert stack.expand(known).tolist() == fresh.tolist()
    strange = np.random.default_rng(0).integers(0, NESTED.symbols, 200)
    assert stack.expand(stack.compress_history(strange)).tolist() == strange.tolist()
    with pytest.raises(UsageError, match="one of the stack's 9"):
        stack.compress_history([NESTED.symbols])


def test_only_the_levels_that_are_there_make_a_history():
    stack = small(mode="faithful", rule="argmax")
    stack.growing = 1
    history = stack.float().compress_history([1, 2, 3, 4])
    assert len(history.levels) == 2
    assert stack.expand(history).tolist() == [1, 2, 3, 4]


# ---- times in windows and steps ---------------------------------------------------------------------


def three(cell):
    """Three faithful levels, and a stream with a rhythm, of which some times are expected."""
    stack = small(cell, "faithful", rule="argmax")
    x = symbols(60, 4)
    x[:, 1::2] = x[:, 1::2] // 5
    return stack, x


def assert_same(one, other):
    for ours, theirs in zip(one.levels, other.levels, strict=True):
        torch.testing.assert_close(ours.h, theirs.h)
        for name in ("since", "fresh", "waited", "remembered"):
            a, b = getattr(ours, name), getattr(theirs, name)
            assert (a is None) == (b is None), name
            assert a is None or torch.equal(a, b), name


@pytest.mark.parametrize("cut", [1, 23, 59])
@pytest.mark.parametrize("cell", CELLS)
def test_times_are_carried_from_window_to_window(cell, cut):
    stack, x = three(cell)
    whole = stack(x, stack.start(4))
    first = stack(x[:cut], stack.start(4))
    second = stack(x[cut:], StackState.from_state_dict(first.state.state_dict()))
    for i, events in enumerate(whole.events):
        assert torch.equal(events, torch.cat([first.events[i], second.events[i]]))
    assert_same(second.state, whole.state)
    levels = whole.state.levels
    assert levels[0].waited is None
    assert [level.waited.shape[1] for level in levels[1:]] == [1, 2]
    assert levels[1].remembered.any()
    counts = [int(events.sum()) for events in whole.events]
    assert counts[0] > counts[1] > counts[2]


@pytest.mark.parametrize("cell", CELLS)
def test_steps_carry_the_times_of_windows(cell):
    stack, x = three(cell)
    output, state = stack(x, stack.start(4)), stack.start(4)
    for row in x:
        _, state = stack.step(row, state)
    assert_same(state, output.state)


def test_what_is_waited_is_counted_on_the_clocks_below():
    stack, x = three("gru")
    output = stack(x, stack.start(4))
    for level in (1, 2):
        for row in range(4):
            last = int(output.events[level][:, row].nonzero().max())
            since = [int(events[last + 1 :, row].sum()) for events in output.events[:level]]
            assert output.state.levels[level].waited[row].tolist() == since


def test_a_cold_row_has_no_times():
    stack, x = three("gru")
    state = stack(x, stack.start(4)).state.reset(torch.tensor([True, False, True, False]))
    for level in state.levels[1:]:
        assert not level.waited[::2].any()
        assert not level.remembered[::2].any()
    assert state.levels[1].remembered[1::2].any()
