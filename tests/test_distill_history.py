"""Upper levels distilled into the lowest, over symbols and vectors."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from chunker.config import GateRule
from chunker.errors import UsageError
from chunker.learning.history import HistoryStack
from chunker.learning.history_distillation import HistoryDistillConfig, distill_history, upper_states
from chunker.learning.observation import Categorical, Gaussian
from chunker.learning.pretraining import PretrainConfig, pretrain

LAG = 20
SYMBOLS, VECTORS = Categorical(LAG + 3), Gaussian(2, quantum=0.125)


pytestmark = pytest.mark.usefixtures("one_thread")


def cued(count, random, observation):
    """The first input decides the last one, LAG inputs later; those between count up, always alike."""
    rows = []
    for cue in random.integers(0, 2, count):
        if observation.is_symbols:
            rows.append(np.array([cue, *range(2, LAG + 2), cue]))
        else:
            row = np.stack([np.zeros(LAG + 2), np.arange(LAG + 2) / 4], 1)
            row[[0, -1], 0] = 2.0 * cue - 1
            rows.append(row)
    return rows


@pytest.fixture(scope="module", params=[SYMBOLS, VECTORS], ids=["symbols", "vectors"])
def taught(request):
    """A stack of two levels whose lower one cannot bridge the lag: its gradients go 3 inputs back."""
    observation = request.param
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    rows = cued(64, random, observation)
    gate = GateRule("surprise", 0.5) if observation.is_symbols else GateRule("tolerance", 0.5)
    stack, _ = pretrain(
        observation, rows, PretrainConfig((32, 16), steps=400, window=3, batch=16), gate, "gru", random
    )
    assert len(stack.levels) == 2
    return stack, rows


def last_is_expected(stack, rows):
    """The share of sequences whose last input does not pass the lowest gate."""
    lasts = zip(rows, stack.read(rows), strict=True)
    return np.mean([len(row) - 1 not in history.levels[1] for row, history in lasts])


def test_states_are_held_between_ticks(taught):
    stack, rows = taught
    row = rows[0]
    [states] = upper_states(stack, [row])
    assert states.shape == (len(row), 16)
    states_now = stack.start(1)
    for t, x in enumerate(row):  # one input at a time
        inputs = torch.as_tensor(x)[None, None]
        _, states_now = stack.run(inputs, torch.ones(1, 1, dtype=torch.bool), states_now)
        assert np.allclose(states[t], states_now[1].h[0].numpy(), atol=1e-6)


def test_rows_do_not_mix(taught):
    stack, rows = taught
    parts = [rows[0], rows[1][:5], rows[2][:1], rows[3][:0], rows[4]]
    for row, states in zip(parts, upper_states(stack, parts), strict=True):
        assert len(states) == len(row)
        if len(row):
            assert np.allclose(states, upper_states(stack, [row])[0], atol=1e-6)


def lesson(stack, rows, **settings):
    torch.manual_seed(0)
    plan = HistoryDistillConfig(
        **{"window": 3, "steps": 1000, "batch": 64, "learning_rate": 1e-2, **settings}
    )
    return distill_history(stack, rows, plan, np.random.default_rng(0))


def test_level_0_learns_what_the_upper_level_holds(taught):
    stack, rows = taught
    student, report = lesson(stack, rows)
    assert len(student.levels) == 1
    assert student.thresholds == stack.thresholds[:1]
    assert report.state_error < 0.1
    assert report.passed_after < report.passed_before
    assert report.bits_after < report.bits_before
    assert report.old_after < report.old_before + 0.2
    again, same = lesson(stack, rows)
    assert same == report
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), again.parameters(), strict=True))


@pytest.mark.parametrize("taught", [SYMBOLS], indirect=True, ids=["symbols"])
def test_level_0_alone_bridges_the_lag_with_a_teacher_only(taught):
    stack, rows = taught
    fresh = cued(40, np.random.default_rng(1), stack.observation)
    assert last_is_expected(stack, fresh) < 0.2
    assert last_is_expected(lesson(stack, rows)[0], fresh) == 1.0
    student, report = lesson(stack, rows, state_weight=0.0)
    assert last_is_expected(student, fresh) < 0.2
    assert report.state_error > 0.5


def test_what_cannot_be_taught_is_refused(taught):
    stack, rows = taught
    random = np.random.default_rng(0)
    alone = HistoryStack(stack.observation, "gru", stack.gate)
    alone.add(stack.level(0), stack.thresholds[0])
    with pytest.raises(UsageError, match="no upper level"):
        distill_history(alone, rows, HistoryDistillConfig(), random)
    with pytest.raises(UsageError, match="all sequences are empty"):
        distill_history(stack, [row[:0] for row in rows], HistoryDistillConfig(), random)
    for wrong in (
        {"own_weight": 0.0, "state_weight": 0.0},
        {"state_weight": -1.0},
        {"window": 0},
        {"learning_rate": 0.0},
    ):
        with pytest.raises(UsageError):
            HistoryDistillConfig(**wrong)
