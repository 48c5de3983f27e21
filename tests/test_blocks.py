"""Cuts, lanes, and the choice between raw, lzma and net."""

from __future__ import annotations

import numpy as np
import pytest
from counting_model import CountingModel, CountingSession, CountingStack, noise, skewed
from hypothesis import given, settings
from hypothesis import strategies as st

from chunker.coding import blocks, frames
from chunker.coding.archive import Block
from chunker.coding.frames import Kind
from chunker.errors import CorruptArchive, UsageError


@given(n_bytes=st.integers(0, 50 * blocks.BLOCK_BYTES))
def test_block_plan(n_bytes):
    plan = blocks.block_plan(n_bytes)
    assert sum(plan) == n_bytes
    assert all(0 < size <= blocks.BLOCK_BYTES <= frames.MAX_BLOCK_BYTES for size in plan)
    if n_bytes >= 1 << 16:
        assert len(plan) >= 2, "two cores have nothing to share"


@given(n_bytes=st.integers(1, frames.MAX_BLOCK_BYTES))
def test_lane_plan(n_bytes):
    assert 1 <= blocks.lane_plan(n_bytes) <= min(n_bytes, frames.MAX_LANES)


def test_steps_are_laid_out_as_specified():
    steps, last = blocks.to_steps(b"abcdefghij", 3)
    assert [bytes(row) for row in steps] == [b"aeh", b"bfi", b"cgj", b"d\0\0"]
    assert last == 1


@given(data=st.binary(min_size=1, max_size=200), lanes=st.integers(1, 20))
def test_steps_come_back(data, lanes):
    lanes = min(lanes, len(data))
    steps, last = blocks.to_steps(data, lanes)
    assert steps.shape == (-(-len(data) // lanes), lanes)
    assert last == (len(data) - 1) % lanes + 1
    assert blocks.from_steps(steps, len(data)) == data


@settings(max_examples=50, deadline=None)
@given(n_bytes=st.integers(1, 700), lanes=st.integers(1, 9), seed=st.integers(0, 99))
def test_net_round_trip(n_bytes, lanes, seed):
    data, lanes = skewed(n_bytes, seed), min(lanes, n_bytes)
    payload = blocks.encode_net(CountingStack(), data, lanes, best_bytes=10_000)
    assert payload is not None
    assert blocks.decode_net(CountingStack(), payload, n_bytes, lanes) == data


def test_net_stops_where_it_cannot_win():
    data = skewed(40_000)
    payload = blocks.encode_net(CountingStack(), data, 4, best_bytes=len(data))
    assert payload is not None
    assert blocks.encode_net(CountingStack(), data, 4, best_bytes=len(payload)) is None
    assert blocks.encode_net(CountingStack(), data, 4, best_bytes=len(payload) + 1) == payload


class WatchedSession(CountingSession):
    """Counts the steps of all sessions."""

    steps = 0

    def frequencies(self) -> np.ndarray:
        WatchedSession.steps += 1
        return super().frequencies()


class WatchedStack(CountingStack):
    def session(self, lanes: int, learn: bool = False) -> CountingSession:
        return WatchedSession(lanes)


class WatchedModel(CountingModel):
    def integer_stack(self) -> CountingStack:
        return WatchedStack()


def test_net_stops_after_the_trial(monkeypatch):
    monkeypatch.setattr(WatchedSession, "steps", 0)
    data = bytes(range(100)) * 655  # lzma takes some 100 bytes, a counter 50 KiB
    assert blocks.encode_block(WatchedModel(), data).kind is Kind.LZMA
    assert 0 < WatchedSession.steps <= len(data) // blocks.lane_plan(len(data)) // blocks.TRIAL_PART + 1


def test_net_stops_on_request():
    with pytest.raises(blocks.Stopped):
        blocks.encode_net(CountingStack(), skewed(1000), 1, 1000, stop=lambda: True)
    with pytest.raises(blocks.Stopped):
        blocks.decode_net(CountingStack(), b"", 1000, 1, stop=lambda: True)


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", Kind.RAW),
        (b"a", Kind.RAW),
        (noise(100), Kind.RAW),
        (noise(50_000), Kind.RAW),
        (skewed(50_000), Kind.LEARNING_NET),
        (bytes(100_000), Kind.LZMA),
        (noise(30_000) * 2, Kind.LZMA),
    ],
    ids=["empty", "one byte", "little noise", "noise", "skewed", "zeros", "noise twice"],
)
def test_choice_is_the_smallest(data, kind):
    model = CountingModel()
    coded = blocks.encode_block(model, data)
    assert coded.kind is kind
    assert len(coded.payload) <= len(data)
    head = frames.make_head(coded.kind, len(data), coded.lanes, len(coded.payload))
    crc = frames.block_crc(head.raw, coded.payload, data)
    assert blocks.decode_block(model, Block(head, coded.payload, crc, model.fingerprint)) == data


def test_a_preset_says_how_the_net_is_used():
    data = skewed(3000)
    for preset, kind in (("fast", Kind.NET), ("default", Kind.LEARNING_NET)):
        assert blocks.encode_block(CountingModel(), data, blocks.kind_of(preset)).kind is kind
    with pytest.raises(UsageError, match="fast, default"):
        blocks.kind_of("faster")


def test_noise_costs_the_net_nothing():
    model = CountingModel()
    blocks.encode_block(model, noise(blocks.NOISE_BYTES))
    assert model.sessions == 0


@pytest.mark.parametrize("n_bytes", [1 << 14, 1 << 15, 1 << 19])
def test_noise_is_recognised(n_bytes):
    assert blocks.looks_like_noise(noise(n_bytes))
    assert not blocks.looks_like_noise(noise(n_bytes)[: n_bytes // 2] + bytes(n_bytes // 2))
    assert not blocks.looks_like_noise(skewed(n_bytes))


def test_noise_that_repeats_itself_is_no_noise():
    data = noise(200_000)
    assert blocks.only_noise(data)
    assert not blocks.repeats_itself(data)
    for shift in range(8):
        again = data[:100_000] + b"x" * shift + data[40_000:60_000]
        assert blocks.repeats_itself(again)
        assert not blocks.only_noise(again)


def test_even_counts_alone_are_no_noise():
    """Bytes that lzma predicts from the ones before them although all are equally frequent."""
    steps = np.frombuffer(noise(100_000), dtype=np.uint8) >> 3
    data = np.cumsum(steps, dtype=np.uint8).tobytes()
    assert blocks.looks_like_noise(data)
    assert not blocks.only_noise(data)
    assert blocks.encode_block(CountingModel(), data).kind is Kind.LZMA


def test_compact_net_must_pay_for_its_fingerprint():
    """Five bytes more around the payload than around a stored one."""
    model = CountingModel()
    for n_bytes in range(1, 120):
        data = skewed(n_bytes, seed=n_bytes)
        assert len(blocks.encode_compact(model, data)) <= n_bytes + 9


@pytest.mark.parametrize("spoil", [lambda p: p[:-1], lambda p: p + b"\0", lambda p: b"\xff" + p[1:]])
def test_lzma_that_is_not_what_it_claims(spoil):
    data = bytes(5000)
    packed = blocks.encode_lzma(data)
    assert blocks.decode_lzma(packed, len(data)) == data
    with pytest.raises(CorruptArchive):
        blocks.decode_lzma(spoil(packed), len(data))
    for wrong in (len(data) - 1, len(data) + 1):
        with pytest.raises(CorruptArchive):
            blocks.decode_lzma(packed, wrong)


def test_content_is_checked():
    head = frames.make_head(Kind.RAW, 3, 0, 3)
    crc = frames.block_crc(head.raw, b"abc", b"abc")
    assert blocks.decode_block(None, Block(head, b"abc", crc, b"")) == b"abc"
    with pytest.raises(CorruptArchive, match="checksum"):
        blocks.decode_block(None, Block(head, b"abd", crc, b""))


def test_bytes_keep_their_order_in_memory():
    """Whatever the array's memory layout is, the bytes come back lane after lane."""
    data = bytes(range(200))
    steps, _ = blocks.to_steps(data, 8)
    assert blocks.from_steps(np.asfortranarray(steps), len(data)) == data
