"""Histories: what goes up, when it came, and the way back from the top level alone."""

from __future__ import annotations

from dataclasses import replace
from math import prod

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_levels import CELLS, random_tensors

from chunker.config import TIME_BUCKETS, GateRule, StackConfig
from chunker.core.history import Reduced, compress_history, expand
from chunker.core.levels import IntegerStack, time_bucket
from chunker.core.quantize import quantize
from chunker.errors import UsageError

V = 5
RULES = (GateRule("argmax"), GateRule("surprise", 0.5), GateRule("surprise", 1.0))
WIDTHS = (12, 10, 9, 8)
RHYTHM = (2, 3, 2)  # of so many inputs of level 0, 1, 2 one goes up
QUICK_RHYTHM = (1, 2, 3)


def some_stack(seed=0, levels=2, favourite=0, rhythm=RHYTHM, **fields):
    """Random weights, sharp enough to predict symbols, and the times of a rhythm.

    favourite: how much more level l likes the symbol (seed + l) % V, or they would often expect the same.
    """
    config = StackConfig(**{"levels": WIDTHS[:levels], "mode": "faithful", "symbols": V, **fields})
    tensors = random_tensors(config, seed)
    tensors["thresholds_bits"][:] = config.gate.value
    for level in range(len(config.levels)):
        tensors[f"{level}.readout"] *= 3
        tensors[f"{level}.readout_bias"][(seed + level) % config.symbols] += favourite
        if config.predicts_time(level):
            bias = tensors[f"{level}.time_readout_bias"].reshape(level, TIME_BUCKETS)
            for clock in range(level):
                bias[clock, time_bucket(prod(rhythm[clock:level]))] += 10
    return IntegerStack(config, quantize(tensors))


def rhythmic(stack, length, seed, noise=0.0, rhythm=RHYTHM):
    """Every level predicts its inputs, but for those of the rhythm, which are as the level above says."""
    rng, session = np.random.default_rng(seed), stack.session(1)
    counts, symbols = [0] * len(stack.levels), np.zeros(length, dtype=np.int64)
    for t in range(length):
        level = 0
        while level + 1 < len(counts) and counts[level] % rhythm[level] == 0:
            level += 1
        symbol = int(session.expected(level)[0]) if rng.random() >= noise else int(rng.integers(V))
        symbols[t] = symbol
        for index, lanes in enumerate(session.read(symbols[t : t + 1])):
            counts[index] += len(lanes)
    return symbols


def check(stack, sequences):
    """The sequences come back from the top alone, and the events hold what they say."""
    histories = compress_history(stack, sequences)
    assert len(histories) == len(sequences)
    back = expand(stack, [history.top for history in histories])
    for sequence, history, result in zip(sequences, histories, back, strict=True):
        assert result.tolist() == list(sequence)
        assert history.levels[0].symbols.tolist() == list(sequence)
        check_events(history)
    return histories


def check_events(history):
    counts = [len(events) for events in history.levels]
    assert history.length == counts[0]
    assert history.top.counts == tuple(counts)
    assert history.rates == [count / max(counts[0], 1) for count in counts]
    for level, events in enumerate(history.levels):
        assert events.clocks.shape == (len(events), max(level, 1))
        assert (np.diff(events.times) > 0).all()
        assert events.symbols.tolist() == history.levels[0].symbols[events.times].tolist()
        assert (events.surprises_bits >= 0).all()
        for clock, column in enumerate(events.clocks.T):
            assert history.levels[clock].times[column].tolist() == events.times.tolist()
        if level + 1 < len(counts):
            above = history.levels[level + 1]
            assert events.times[events.unpredicted].tolist() == above.times.tolist()
            assert (counts[level] > 0) == (counts[level + 1] > 0)  # the first input always goes up


def assert_same(one, other):
    for ours, theirs in zip(one.levels, other.levels, strict=True):
        for name in ("symbols", "clocks", "surprises_bits", "unpredicted"):
            assert np.array_equal(getattr(ours, name), getattr(theirs, name)), name


@st.composite
def cases(draw):
    """A stack and sequences of all kinds."""
    seed = draw(st.integers(0, 2**20))
    fields = {
        "levels": draw(st.integers(1, 4)),
        "cell": draw(st.sampled_from(CELLS)),
        "gate": draw(st.sampled_from(RULES)),
        "favourite": draw(st.sampled_from([0, 6, 12])),
    }
    rhythm = draw(st.sampled_from([RHYTHM, QUICK_RHYTHM]))
    stack, rng = some_stack(seed, rhythm=rhythm, **fields), np.random.default_rng(seed)
    kinds = {
        "empty": lambda: np.zeros(0, dtype=np.int64),
        "one": lambda: rng.integers(0, V, 1),
        "equal": lambda: np.full(rng.integers(1, 40), rng.integers(V)),
        "different": lambda: rng.permutation(V),
        "random": lambda: rng.integers(0, V, rng.integers(1, 40)),
        "periodic": lambda: np.resize(rng.integers(0, V, rng.integers(2, 8)), rng.integers(1, 50)),
        "rhythmic": lambda: rhythmic(stack, int(rng.integers(1, 50)), seed, rhythm=rhythm),
        "disturbed": lambda: rhythmic(stack, int(rng.integers(1, 50)), seed, 0.1, rhythm),
    }
    chosen = draw(st.lists(st.sampled_from(sorted(kinds)), min_size=1, max_size=4))
    return stack, [kinds[kind]() for kind in chosen]


@settings(deadline=None, max_examples=25)
@given(cases())
def test_a_sequence_comes_back_from_the_top_level_alone(case):
    check(*case)


@settings(deadline=None, max_examples=25)
@given(cases())
def test_sequences_do_not_influence_one_another(case):
    stack, sequences = case
    together = compress_history(stack, sequences)
    for sequence, history in zip(sequences, together, strict=True):
        assert_same(compress_history(stack, [sequence])[0], history)
        assert expand(stack, [history])[0].tolist() == sequence.tolist()


@pytest.mark.parametrize("rule", RULES, ids=str)
@pytest.mark.parametrize("cell", CELLS)
def test_all_levels_leave_much_out_and_it_comes_back(cell, rule):
    stack = some_stack(1, levels=4, cell=cell, gate=rule, favourite=12)
    histories = check(stack, [rhythmic(stack, 150, seed, noise=0.01) for seed in range(3)])
    totals = np.sum([history.top.counts for history in histories], 0)
    # so the levels between predicted symbols and times, or none of this would be tried here
    assert (totals[1:] < 0.9 * totals[:-1]).all(), totals


@pytest.mark.parametrize("rule", RULES, ids=str)
def test_times_of_one_are_expected_too(rule):
    stack = some_stack(1, levels=3, gate=rule, favourite=12, rhythm=QUICK_RHYTHM)
    (history,) = check(stack, [rhythmic(stack, 150, 0, noise=0.01, rhythm=QUICK_RHYTHM)])
    first, second = history.levels[1:]
    assert len(second) < 0.7 * len(first)
    left_out = np.flatnonzero(~first.unpredicted)
    assert (first.times[left_out] - first.times[left_out - 1] == 1).any()


@pytest.mark.parametrize("rule", RULES[1:], ids=str)
def test_a_gate_of_one_bit_or_less_leaves_out_only_what_is_most_probable(rule):
    stack = some_stack(2, gate=rule, favourite=4)
    (history,) = compress_history(stack, [rhythmic(stack, 100, 0, noise=0.2)])
    surprises, unpredicted = history.levels[0].surprises_bits, history.levels[0].unpredicted
    assert 0 < unpredicted[1:].sum() < len(unpredicted) - 1
    assert unpredicted[0]
    assert (unpredicted[1:] == (surprises[1:] > rule.value)).all()


def test_two_joint_levels_expand_too():
    for seed in range(4):
        for rule in RULES:
            stack = some_stack(seed, mode="joint", gate=rule, favourite=4)
            (history, _, _) = check(stack, [rhythmic(stack, 60, seed), np.arange(60) % V, np.zeros(0, int)])
            assert 0 < len(history.levels[1]) < 60


def test_a_calibrated_gate_expands_if_it_ends_at_one_bit():
    config = StackConfig(levels=(12, 10), mode="faithful", symbols=V, gate=GateRule("rate", 0.3))
    tensors = random_tensors(config)
    tensors["thresholds_bits"][:] = 1.0
    check(IntegerStack(config, quantize(tensors)), [np.arange(40) % V])
    tensors["thresholds_bits"][:] = 1.01
    with pytest.raises(UsageError, match="cannot be put back"):
        expand(IntegerStack(config, quantize(tensors)), [])


def test_two_levels_need_no_time_code():
    stack = some_stack(3, favourite=4, time_code=False, gate=RULES[0])
    (history,) = check(stack, [rhythmic(stack, 60, 0, noise=0.1)])
    assert len(history.levels[1]) < 60


def test_without_their_times_different_sequences_are_the_same_events():
    """Schmidhuber 1992, section 2: the unexpected inputs determine the sequence together with their times."""
    stack = some_stack(0, favourite=60, gate=RULES[0])  # level 0 expects 0, always
    sequences = [[3, 0, 0, 2, 0, 0], [3, 0, 0, 0, 2, 0]]
    one, other = (history.top for history in check(stack, sequences))
    assert one.symbols.tolist() == other.symbols.tolist() == [3, 2]
    assert one.counts == other.counts == (6, 2)
    assert [top.clocks[:, 0].tolist() for top in (one, other)] == [[0, 3], [0, 4]]
    swapped = [replace(one, clocks=other.clocks), replace(other, clocks=one.clocks)]
    assert [back.tolist() for back in expand(stack, swapped)] == sequences[::-1]


def test_the_top_levels_gate_can_be_chosen():
    stack = some_stack(1, levels=1, gate=RULES[2])
    sequence = np.random.default_rng(0).integers(0, V, 60)
    everything, some, nothing = (
        compress_history(stack, [sequence], gate_of_top=bits)[0].levels[0] for bits in (0.0, 2.0, 99.0)
    )
    assert (everything.unpredicted == (everything.surprises_bits > 0)).all()
    assert some.unpredicted.tolist() == (some.surprises_bits > 2).tolist()
    assert 0 < some.unpredicted.sum() < everything.unpredicted.sum()
    assert not nothing.unpredicted.any()
    left_out = compress_history(stack, [sequence])[0].levels[0]
    assert left_out.unpredicted.tolist() == (left_out.surprises_bits > 1).tolist()


def test_bytes_are_sequences_of_their_numbers():
    stack = some_stack(0, symbols=256)
    text = b"abab\x00\xff abab abab"
    from_bytes, from_list = check(stack, [text, list(text)])
    assert_same(from_bytes, from_list)
    assert bytes(expand(stack, [from_bytes.top])[0].tolist()) == text


def test_nothing_gives_nothing():
    stack = some_stack(0, levels=3)
    assert compress_history(stack, []) == []
    assert expand(stack, []) == []
    for history in check(stack, [[], b""]):
        assert history.top.counts == (0, 0, 0)
        assert history.rates == [0.0, 0.0, 0.0]


# ---- refusals ---------------------------------------------------------------------------------------


def test_letters_that_the_rule_word_left_out_are_not_put_back():
    config = StackConfig((6, 5), gate=GateRule("word"))
    stack = IntegerStack(config, quantize(random_tensors(config)))
    (history,) = compress_history(stack, [b"It was 1991."])
    assert bytes(history.levels[1].symbols.tolist()) == b"I  1991."
    with pytest.raises(UsageError, match="cannot be put back"):
        expand(stack, [history])


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"gate": GateRule("surprise", 1.1)}, "1.1"),
        ({"gate": GateRule("surprise", 4.0), "mode": "joint"}, "4.00 bits"),
        ({"gate": RULES[0], "levels": 3, "mode": "joint"}, "must predict times"),
        ({"gate": RULES[0], "levels": 3, "time_code": False}, "must predict times"),
    ],
)
def test_what_cannot_be_put_back_is_compressed_but_not_expanded(fields, reason):
    stack = some_stack(0, **fields)
    history = compress_history(stack, [np.arange(30) % V])[0]
    check_events(history)
    with pytest.raises(UsageError, match=reason):
        expand(stack, [history])


@pytest.mark.parametrize("sequence", [[0, V], [-1, 0], [[0, 1], [1, 0]], [0.5, 1.0], 3, bytes([V])], ids=repr)
def test_what_is_no_sequence_of_the_alphabet_is_refused(sequence):
    stack = some_stack(0)
    with pytest.raises(UsageError):
        compress_history(stack, [[0, 1], sequence])


@pytest.mark.parametrize("levels", [1, 3])
def test_a_history_of_another_number_of_levels_is_refused(levels):
    (history,) = compress_history(some_stack(0, levels=levels, gate=RULES[0]), [np.arange(20) % V])
    with pytest.raises(UsageError, match=f"of {levels} levels, the stack has 2"):
        expand(some_stack(0, gate=RULES[0]), [history])


@pytest.mark.parametrize("levels", [2, 3, 4])
def test_a_history_of_another_stack_is_refused_where_it_does_not_fit(levels):
    refused = 0
    for seed in range(6):
        stack, other = (
            some_stack(s, levels=levels, gate=RULES[seed % 3], favourite=3) for s in (seed, seed + 7)
        )
        sequence = rhythmic(stack, 60, seed, noise=0.1)
        histories = compress_history(stack, [sequence, sequence[:30]])
        try:
            back = expand(other, histories)
        except UsageError:
            refused += 1
        else:
            assert [len(b) for b in back] == [60, 30]
    assert refused >= 3


def test_a_history_that_was_cut_short_is_refused():
    stack = some_stack(0, gate=RULES[0])
    top = compress_history(stack, [np.arange(20) % V])[0].top
    longer = Reduced((21, top.counts[1]), top.symbols, top.clocks)
    shorter = Reduced((19, top.counts[1]), top.symbols, top.clocks)
    # the input that level 0 makes up at the end may be one that it expects; the one that is missing is not
    assert expand(stack, [longer])[0][:20].tolist() == (np.arange(20) % V).tolist()
    assert top.clocks[-1, 0] == 19
    with pytest.raises(UsageError, match="does not fit"):
        expand(stack, [shorter])
