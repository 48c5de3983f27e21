"""The range coder against its specification in plain integers, and how short its payloads are."""

from __future__ import annotations

import math

import numpy as np
import pytest
from counting_model import TOTAL, reference_decode, reference_encode, rows_of
from hypothesis import given, settings
from hypothesis import strategies as st

from chunker.coding.entropy import Decoder, Encoder
from chunker.errors import CorruptArchive


def random_table(rng: np.random.Generator, symbols: int = 256) -> list[int]:
    """Frequencies >= 1 with the fixed sum, from flat to almost certain."""
    shares = rng.dirichlet(np.full(symbols, rng.choice([0.003, 0.05, 1.0, 50.0])))
    table = 1 + np.floor(shares * (TOTAL - symbols)).astype(np.int64)
    table[rng.integers(symbols)] += TOTAL - table.sum()
    return [int(f) for f in table]


def draw(rng: np.random.Generator, table: list[int]) -> int:
    """Mostly a likely symbol, at times the least likely, the first or the last."""
    way = rng.integers(8)
    if way == 0:
        return int(np.argmin(table))
    if way == 1:
        return int(rng.choice([0, len(table) - 1]))
    return int(rng.choice(len(table), p=np.array(table) / TOTAL))


def encode(symbols: list[int], tables: list[list[int]]) -> bytes:
    encoder = Encoder()
    for symbol, table in zip(symbols, tables, strict=True):
        encoder.encode(np.array([symbol]), rows_of(table))
    return encoder.finish()


def decode(payload: bytes, tables: list[list[int]]) -> list[int]:
    decoder = Decoder(payload)
    return [int(decoder.decode(rows_of(table))[0]) for table in tables]


@settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 2**32), length=st.integers(0, 40), symbols=st.sampled_from([2, 3, 256]))
def test_payload_is_the_shortest_that_the_specification_allows(seed, length, symbols):
    rng = np.random.default_rng(seed)
    tables = [random_table(rng, symbols) for _ in range(length)]
    message = [draw(rng, table) for table in tables]
    payload = encode(message, tables)
    assert payload == reference_encode(message, tables)
    assert decode(payload, tables) == message == reference_decode(payload, tables)


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), length=st.integers(1, 60))
def test_payload_exceeds_the_information_by_at_most_one_byte(seed, length):
    rng = np.random.default_rng(seed)
    tables = [random_table(rng) for _ in range(length)]
    message = [draw(rng, table) for table in tables]
    bits = sum(math.log2(TOTAL / table[symbol]) for table, symbol in zip(tables, message, strict=True))
    assert len(encode(message, tables)) <= bits / 8 * 1.001 + 1


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 2**32), payload=st.binary(max_size=40))
def test_any_payload_decodes_as_the_specification_says_or_is_refused(seed, payload):
    rng = np.random.default_rng(seed)
    tables = [random_table(rng) for _ in range(60)]
    try:
        expected = reference_decode(payload, tables)
    except IndexError:
        with pytest.raises(CorruptArchive, match="damaged"):
            decode(payload, tables)
    else:
        assert decode(payload, tables) == expected


def test_a_batch_equals_single_symbols_in_lane_order():
    rng = np.random.default_rng(5)
    tables = [random_table(rng) for _ in range(7)]
    message = [draw(rng, table) for table in tables]
    batched = Encoder()
    rows = np.concatenate([rows_of(table) for table in tables])
    batched.encode(np.array(message, dtype=np.uint8), rows)
    payload = batched.finish()
    assert payload == encode(message, tables)
    assert Decoder(payload).decode(rows).tolist() == message


def test_golden_payload():
    """A change here breaks every archive ever written."""
    table = [TOTAL - 255 - 255 * 1000] + [1001] * 255
    payload = encode([0, 1, 255, 0, 0, 7, 128], [table] * 7)
    assert payload.hex() == "f848d750b344ab"
    assert decode(payload, [table] * 7) == [0, 1, 255, 0, 0, 7, 128]


def test_what_was_certain_takes_no_bytes():
    table = [TOTAL - 255] + [1] * 255
    assert encode([], []) == b""
    assert encode([0] * 1000, [table] * 1000) == b""
    assert decode(b"", [table] * 1000) == [0] * 1000


def test_size_bytes_follows_the_payload():
    encoder = Encoder()
    assert encoder.size_bytes == 0
    rng = np.random.default_rng(6)
    for _ in range(100):
        encoder.encode(rng.integers(0, 256, size=3), np.full((3, 256), 2.0**16 - 1))
    assert len(encoder.finish()) <= encoder.size_bytes <= len(encoder.finish()) + 8
