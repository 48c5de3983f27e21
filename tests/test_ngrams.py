"""What level 0 is told of its last symbols: the same in integer model and float stack,
and nothing from elsewhere."""

from __future__ import annotations

from bisect import bisect_left
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_levels import NGRAMS, integer_stack, random_tensors, run, some_symbols

from chunker.config import NGrams, StackConfig
from chunker.core.ngrams import BASE, SPREAD, LastSymbols, NGramTable
from chunker.core.quantize import quantize
from chunker.errors import UsageError


def letter_of(byte):
    """A letter made small; None if it is none."""
    if byte > 127:
        return byte
    return byte | 32 if chr(byte).isalpha() else None


def key_of(symbols):
    return sum((int(symbol) + 1) * BASE**i for i, symbol in enumerate(reversed(symbols))) % 2**32


def plain_keys(symbols, ngrams):
    """Of the n-grams and words that end a sequence, from FORMAT.md word by word."""
    keys = [key_of(symbols[-order:]) for order in ngrams.orders]
    if ngrams.word:
        word: list[int] = []
        for symbol in symbols:
            letter = letter_of(int(symbol))
            word = [] if letter is None else [*word, letter]
        keys.append(key_of(word) * BASE + int(symbols[-1]) + 1)
    return keys


def plain_rows(symbols, ngrams):
    """Of one lane, per symbol and table."""
    return [
        [
            table * ngrams.rows + key * SPREAD % 2**32 * ngrams.rows // 2**32
            for table, key in enumerate(plain_keys(symbols[: t + 1], ngrams))
        ]
        for t in range(len(symbols))
    ]


BYTES = st.one_of(st.sampled_from(b"aAbZz .,\n\xe9\xff_09"), st.integers(0, 255))
SYMBOLS = st.one_of(BYTES, st.integers(0, 65535))  # words are of bytes alone


@settings(deadline=None, max_examples=40)
@given(
    st.lists(BYTES, max_size=12) | st.lists(SYMBOLS, max_size=12),
    st.sets(st.integers(1, 8), min_size=1).map(sorted),
    st.integers(0, 20),
    st.booleans(),
)
def test_a_code_is_the_sum_of_the_rows_that_the_format_names(symbols, orders, bits, word):
    word = word and all(symbol < 256 for symbol in symbols)
    ngrams = NGrams(tuple(orders), 1 << bits, 9, word)
    rng = np.random.default_rng(bits)
    names = rng.integers(-127, 128, (ngrams.tables << bits, 9), dtype=np.int8)
    multiplier = rng.choice([1, 2**14, 2**17, 2**18, 2**31 - 1], 9).astype(np.int32)
    table, last = NGramTable(ngrams, names, multiplier), LastSymbols(1, ngrams)
    for symbol, rows in zip(symbols, plain_rows(symbols, ngrams), strict=True):
        code = table(last.follow(np.array([symbol])))
        total = names[rows].astype(object).sum(0) * multiplier.astype(object)
        assert code.tolist() == [np.clip((total + 2**16) // 2**17, -127, 127).tolist()]


@settings(deadline=None, max_examples=40)
@given(
    st.lists(BYTES, min_size=3, max_size=27) | st.lists(SYMBOLS, min_size=3, max_size=27),
    st.integers(1, 3),
    st.sets(st.integers(1, 8), min_size=1).map(sorted),
    st.integers(0, 12),
    st.integers(0, 9),
    st.booleans(),
)
def test_windows_and_integer_model_look_up_the_same_rows(content, lanes, orders, bits, cut, word):
    torch = pytest.importorskip("torch")
    from chunker.learning.ngrams import follow, follow_word, ngram_rows

    word = word and all(symbol < 256 for symbol in content)
    ngrams = NGrams(tuple(orders), 1 << bits, 1, word)
    symbols = np.array(content[: len(content) // lanes * lanes]).reshape(-1, lanes)
    recent = torch.zeros(lanes, ngrams.longest - 1, dtype=torch.int64)
    letters = torch.zeros(lanes, dtype=torch.int64) if word else None
    parts = []
    for part in np.split(symbols, [bisect_left(range(len(symbols)), cut)]):
        window = torch.from_numpy(part)
        parts.append(ngram_rows(window, recent, letters, ngrams))
        recent = follow(window, recent)
        letters = None if letters is None else follow_word(window, letters)[-1]
    rows = torch.cat(parts, 1).permute(2, 1, 0)
    assert rows.tolist() == [plain_rows(symbols[:, lane], ngrams) for lane in range(lanes)]


@settings(deadline=None, max_examples=40)
@given(st.lists(BYTES, min_size=1, max_size=40), st.integers(1, 3))
def test_keys_of_words_at_once_are_those_one_by_one(content, every):
    pytest.importorskip("torch")
    from chunker.learning.ngrams import word_keys_before

    at = np.arange(1, len(content) + 1, every)
    keys = word_keys_before(np.array(content, np.uint8), at)
    ngrams = NGrams((1,), word=True)
    assert keys.tolist() == [plain_keys(content[:end], ngrams)[1] % 2**32 for end in at]


def test_a_table_is_carried_over_to_other_n_grams():
    torch = pytest.importorskip("torch")
    from chunker.learning.ngrams import carry_vectors

    was, now = NGrams((2, 4), 2, 1, word=True), NGrams((3, 4, 6), 2, 1, word=True)
    table, new = torch.arange(1.0, 7).view(6, 1), torch.zeros(8, 1)
    assert carry_vectors(table, was, new, now).flatten().tolist() == [0, 0, 3, 4, 0, 0, 5, 6]


def test_integer_and_float_stack_agree():
    torch = pytest.importorskip("torch")
    from chunker.learning.stack import Stack

    config = StackConfig(levels=(12,), symbols=11, ngrams=NGRAMS)
    tensors, symbols = random_tensors(config), some_symbols(60, 4)
    stack = Stack.from_tensors(config, tensors)
    session, state = stack.integer_stack().session(4), stack.start(4)
    predicted = torch.log_softmax(stack.first(state), 1)
    for row in symbols:
        p = session.probabilities()
        assert np.abs(p - predicted.detach().exp().numpy()).max() < 0.03
        session.update(row)
        predicted, state = stack.step(torch.from_numpy(row), state)


def test_a_cold_lane_knows_nothing_of_what_stood_before_it():
    torch = pytest.importorskip("torch")
    from chunker.learning.stack import Stack

    stack = Stack(StackConfig(levels=(12,), symbols=11, ngrams=NGRAMS))
    torch.nn.init.normal_(stack.levels[0].ngram_table)
    symbols = torch.from_numpy(some_symbols(20, 3))
    cold = torch.tensor([True, False, True])
    state = stack(symbols[:10], stack.start(3)).state.reset(cold)
    fresh, warm = stack(symbols[10:], stack.start(3)), stack(symbols[10:], state)
    same = (fresh.level_logits[0] == warm.level_logits[0]).all(2).all(0)
    assert same.tolist() == cold.tolist()


def test_codes_reach_as_far_as_the_longest_n_gram():
    """A net whose state forgets at once still knows the last four symbols, and not the fifth."""
    config = StackConfig(levels=(12,), cell="rnn", symbols=11, ngrams=NGRAMS)
    tensors = random_tensors(config)
    tensors["0.recurrent"][:] = 0
    from chunker.core.levels import IntegerStack

    stack = IntegerStack(config, quantize(tensors))
    symbols = np.zeros((6, 6), dtype=np.int64)
    for lane in range(6):
        symbols[lane, lane] = 5  # in lane i at step i
    session = stack.session(6)
    for row in symbols:
        session.update(row)
    cold = session.probabilities()
    unlike = [not np.array_equal(cold[lane], cold[0]) for lane in range(6)]
    assert unlike == [False, False, True, True, True, True]


def test_hidden_states_tell_what_stood_before():
    session = integer_stack().session(2)
    for row in ([1, 2], [3, 3]):
        session.update(np.array(row))
    keys = session.hidden(0)[:, 12:]
    assert keys.shape == (2, 4)
    assert (keys[0] == keys[1]).tolist() == [True, False, False, False]  # the last symbol alone is the same
    rows, _ = run(integer_stack(), np.array([[1, 2], [3, 3], [4, 4]]))
    assert not np.array_equal(rows[2, 0], rows[2, 1])


@pytest.mark.parametrize(
    "fields",
    [
        {"orders": ()},
        {"orders": (0,)},
        {"orders": (2, 9)},
        {"orders": (3, 2)},
        {"orders": (2, 2)},
        {"orders": (2.0,)},
        {"rows": 100},
        {"rows": 0},
        {"rows": 1 << 21},
        {"width": 0},
        {"width": True},
        {"word": 1},
    ],
)
def test_n_grams_that_make_no_sense_are_refused(fields):
    with pytest.raises(UsageError):
        NGrams(**fields)


def test_configurations_survive_json_and_those_without_keep_their_spelling():
    config = StackConfig(levels=(12,), ngrams=NGRAMS)
    assert StackConfig.from_json(config.to_json()) == config
    assert "word" not in config.to_json()["ngrams"]
    told = StackConfig(levels=(12,), ngrams=replace(NGRAMS, word=True))
    assert StackConfig.from_json(told.to_json()) == told
    with pytest.raises(UsageError):
        replace(told, symbols=11)
    assert "ngrams" not in StackConfig(levels=(12,)).to_json()
    with pytest.raises(UsageError):
        StackConfig.from_json({**config.to_json(), "ngrams": {"orders": [1], "more": 1}})
    with pytest.raises(UsageError):
        StackConfig.from_json({**config.to_json(), "ngrams": [1]})


def test_dropout_holds_back_from_one_order_on():
    """At each place the sum stops before some order: nothing, the first, the first two, ... or all."""
    torch = pytest.importorskip("torch")
    from chunker.learning.ngrams import ngram_code

    orders, places = 3, 4000
    table = torch.eye(orders)  # row i says which order it is of
    rows = torch.arange(orders).view(orders, 1, 1).expand(orders, places, 1)
    torch.manual_seed(0)
    told = ngram_code(table, rows, 0.5)
    assert torch.equal(ngram_code(table, rows), torch.ones(places, 1, orders))
    assert (told[..., 1:] <= told[..., :-1]).all()
    counts = told.sum(-1).flatten().int().bincount(minlength=orders + 1)
    assert all(abs(n / places - 0.5 / 3) < 0.03 for n in counts[:-1].tolist())
    assert abs(counts[-1] / places - 0.5) < 0.03


def test_dropout_is_for_training_alone():
    torch = pytest.importorskip("torch")
    from chunker.learning.level import Level

    level = Level.of(StackConfig(levels=(16,), ngrams=NGrams((2, 3), 64, 8)), 0)
    torch.nn.init.normal_(level.get_parameter("ngram_table"))
    symbols = torch.randint(256, (40, 2))
    plain, _ = level.forward(symbols, level.start(2))
    level.ngram_dropout = 1.0
    dropped, _ = level.forward(symbols, level.start(2))
    assert not torch.equal(plain, dropped)
    level.eval()
    kept, _ = level.forward(symbols, level.start(2))
    assert torch.equal(plain, kept)
