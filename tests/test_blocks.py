"""Cuts, lanes, and the choice between raw, lzma and net."""

from __future__ import annotations

import functools
import lzma

import numpy as np
import pytest
from conftest import learning_threads
from counting_model import CountingModel, CountingSession, CountingStack, noise, skewed
from hypothesis import given, settings
from hypothesis import strategies as st

from chunker.codec import blocks, frames, lempelziv, pool
from chunker.codec.archive import Block
from chunker.codec.blocks import Learn
from chunker.codec.frames import Kind
from chunker.codec.pool import Stop
from chunker.errors import CorruptArchive, UsageError


@pytest.mark.parametrize("name", blocks.PRESETS)
@given(n_bytes=st.integers(0, 100 << 20))
def test_plan(name, n_bytes):
    preset = blocks.PRESETS[name]
    plan = preset.plan(n_bytes)
    assert sum(plan) == n_bytes
    assert all(0 < size <= preset.block_bytes <= frames.MAX_BLOCK_BYTES for size in plan)
    if n_bytes >= preset.whole_bytes:
        assert len(plan) >= 2, "two cores have nothing to share"
    elif n_bytes:
        assert plan == [n_bytes]
    assert plan[-2:] == preset.last(sum(plan[-2:])), "an input that arrives in pieces is cut in the same way"


@pytest.mark.parametrize("name", blocks.PRESETS)
@given(n_bytes=st.integers(1, frames.MAX_BLOCK_BYTES))
def test_lanes(name, n_bytes):
    preset = blocks.PRESETS[name]
    lanes = preset.lanes(n_bytes)
    assert 1 <= lanes <= min(n_bytes, preset.kind_of(n_bytes).max_lanes)
    assert preset.lanes(n_bytes + 1) >= lanes or preset.kind_of(n_bytes + 1) is not preset.kind_of(n_bytes)


# input: the blocks (length, lanes, kind) of each preset. They may be tuned, but not by accident.
MB = 1 << 20
PLANS = {
    "fast": {
        1000: [(1000, 1, Kind.NET)],
        5000: [(5000, 2, Kind.NET)],
        20_000: [(20_000, 8, Kind.NET)],
        65_535: [(65_535, 8, Kind.NET)],
        65_536: [(32_768, 8, Kind.NET)] * 2,
        MB: [(MB // 2, 176, Kind.NET), *[(MB // 4, 80, Kind.NET)] * 2],
        2 * MB: [*[(MB // 2, 176, Kind.NET)] * 3, *[(MB // 4, 80, Kind.NET)] * 2],
    },
    "default": {
        400: [(400, 1, Kind.MIXED)],
        5000: [(5000, 16, Kind.MIXED)],
        32_768: [(32_768, 16, Kind.MIXED)],
        65_535: [(65_535, 21, Kind.MIXED)],
        65_536: [(65_536, 43, Kind.LEARNING)],
        MB - 1: [(MB - 1, 71, Kind.LEARNING)],
        MB: [(MB // 2, 63, Kind.LEARNING)] * 2,
        2 * MB: [(MB, 71, Kind.LEARNING), *[(MB // 2, 63, Kind.LEARNING)] * 2],
    },
    "best": {
        1000: [(1000, 1, Kind.LEARNING)],
        65_536: [(65_536, 4, Kind.LEARNING)],
        2 * MB - 1: [(2 * MB - 1, 10, Kind.LEARNING)],
        2 * MB: [(MB, 9, Kind.LEARNING)] * 2,
    },
}


@pytest.mark.parametrize("name", blocks.PRESETS)
def test_plans_of_the_presets(name):
    preset = blocks.PRESETS[name]
    for n_bytes, expected in PLANS[name].items():
        planned = [(size, preset.lanes(size), preset.kind_of(size)) for size in preset.plan(n_bytes)]
        assert planned == expected, n_bytes


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


@pytest.mark.parametrize(
    ("kind", "at_most"), [(Kind.NET, 700), (Kind.MIXED, 200), (Kind.LEARNING, 200)], ids=lambda x: str(x)
)
@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_net_round_trip(kind, at_most, data):
    n_bytes = data.draw(st.integers(1, at_most))
    lanes = data.draw(st.integers(1, min(9, n_bytes)))
    content = skewed(n_bytes, data.draw(st.integers(0, 99)))
    payload = blocks.encode_net(CountingStack(), content, lanes, best_bytes=10_000, kind=kind)
    assert payload is not None
    assert blocks.decode_net(CountingStack(), payload, n_bytes, lanes, kind=kind) == content


@pytest.mark.parametrize(("kind", "n_bytes"), [(Kind.NET, 40_000), (Kind.MIXED, 2000), (Kind.LEARNING, 2000)])
def test_net_stops_where_it_cannot_win(kind, n_bytes):
    data = skewed(n_bytes)
    encode = functools.partial(blocks.encode_net, CountingStack(), data, 4, kind=kind)
    payload = encode(best_bytes=len(data))
    assert payload is not None
    assert encode(best_bytes=len(payload)) is None
    assert encode(best_bytes=len(payload) + 1) == payload


class WatchedSession(CountingSession):
    """Counts the steps of all sessions."""

    steps = 0

    def frequencies(self) -> np.ndarray:
        WatchedSession.steps += 1
        return super().frequencies()


class WatchedStack(CountingStack):
    def session(self, lanes: int, learn: Learn = "nothing") -> CountingSession:
        return WatchedSession(lanes)


class WatchedModel(CountingModel):
    def integer_stack(self) -> CountingStack:
        return WatchedStack()


def test_net_stops_after_the_trial_or_is_not_tried(monkeypatch, preset):
    monkeypatch.setattr(WatchedSession, "steps", 0)
    data = bytes(range(100)) * 655  # lzma takes some 100 bytes, a counter 50 KiB
    assert blocks.encode_block(WatchedModel(), data, blocks.PRESETS[preset]).kind is Kind.LZMA
    lanes = blocks.PRESETS[preset].lanes(len(data))
    if preset == "fast":
        assert 0 < WatchedSession.steps <= len(data) // lanes // blocks.TRIAL_PART + 1
    else:
        assert WatchedSession.steps == 0


def test_a_net_that_learns_stops_where_it_does_not(monkeypatch):
    """Not noise by its byte counts, and noise to the net: half the bytes, drawn at random."""
    monkeypatch.setattr(WatchedSession, "steps", 0)
    data = bytes(np.random.default_rng(0).integers(0, 254, 70_000, dtype=np.uint8))
    for module in (blocks, lempelziv):
        monkeypatch.setattr(module, "looks_like_noise", lambda data: False)
    assert blocks.encode_block(WatchedModel(), data, blocks.PRESETS["default"]).kind is Kind.RAW
    lanes = blocks.PRESETS["default"].lanes(len(data))
    assert 0 < WatchedSession.steps <= len(data) // lanes // blocks.TRIAL_PART + 1


KINDS_OF_NET = [kind for kind in Kind if kind.needs_model]


@pytest.mark.parametrize("kind", KINDS_OF_NET)
def test_net_stops_on_request(kind):
    with pytest.raises(pool.Stopped):
        blocks.encode_net(CountingStack(), skewed(1000), 1, 1000, stop=lambda: True, kind=kind)
    with pytest.raises(pool.Stopped):
        blocks.decode_net(CountingStack(), b"", 1000, 1, stop=lambda: True, kind=kind)


def places() -> int:
    """How many blocks with contexts could begin now."""
    few = blocks._few_at_a_time
    taken = 0
    while few.acquire(blocking=False):
        taken += 1
    for _ in range(taken):
        few.release()
    return taken


class Broken(Exception):
    """Raised by the nets below."""


class BrokenStack(CountingStack):
    """Fails as soon as it is used, or at the call of a session's method."""

    def __init__(self, method: str | None = None) -> None:
        self.method = method

    def session(self, lanes: int, learn: Learn = "nothing") -> CountingSession:
        def fail(*_: object) -> None:
            raise Broken

        session = super().session(lanes)
        if self.method is None:
            raise Broken
        setattr(session, self.method, fail)
        return session


@pytest.mark.parametrize("kind", KINDS_OF_NET)
def test_coding_gives_its_place_back(kind):
    data, before = skewed(65), places()
    assert before > 1
    payload = blocks.encode_net(CountingStack(), data, 2, 100, kind=kind)
    assert payload is not None
    assert places() == before
    assert blocks.decode_net(CountingStack(), payload, len(data), 2, kind=kind) == data
    assert places() == before
    assert blocks.encode_net(CountingStack(), data, 2, 0, kind=kind) is None
    assert places() == before


@pytest.mark.parametrize("kind", [Kind.MIXED, Kind.LEARNING])
def test_coding_takes_a_place_while_it_works(kind):
    before = places()
    seen = set()

    def stop() -> bool:
        seen.add(places())
        return False

    blocks.encode_net(CountingStack(), skewed(70), 1, 100, stop, kind)
    assert seen == {before - 1}


@pytest.mark.parametrize("kind", KINDS_OF_NET)
@pytest.mark.parametrize("method", [None, "frequencies", "update", "keep"])
def test_coding_that_fails_gives_its_place_back(kind, method):
    before = places()
    with pytest.raises(Broken):
        blocks.encode_net(BrokenStack(method), skewed(65), 2, 100, kind=kind)
    with pytest.raises(Broken):
        blocks.decode_net(BrokenStack(method), bytes(65), 65, 2, kind=kind)
    assert places() == before


def stop_after(looks: int) -> pool.Stop:
    """True after so many times."""
    answers = iter([False] * looks)
    return lambda: next(answers, True)


@pytest.mark.parametrize("kind", KINDS_OF_NET)
def test_coding_that_is_stopped_gives_its_place_back(kind):
    before = places()
    for steps in (0, 1):
        with pytest.raises(pool.Stopped):
            blocks.encode_net(CountingStack(), skewed(200), 1, 300, stop_after(steps), kind)
        with pytest.raises(pool.Stopped):
            blocks.decode_net(CountingStack(), bytes(300), 200, 1, stop_after(steps), kind)
    assert places() == before


@pytest.mark.usefixtures("no_learning_left")
def test_whatever_ends_coding_ends_learning(tiny_model):
    """At once: not only when the garbage is collected."""
    stack, data = tiny_model.integer_stack(), skewed(200)
    encode = functools.partial(blocks.encode_net, stack, data, 2, kind=Kind.LEARNING)
    seen = []

    def watch() -> bool:
        seen.append(len(learning_threads()))
        return False

    payload = encode(1000, watch)
    assert payload is not None
    assert not learning_threads()
    assert seen == [0, 1], "the test wants it to learn"
    blocks.decode_net(stack, payload, len(data), 2, kind=Kind.LEARNING)
    assert not learning_threads()
    assert encode(10) is None
    assert not learning_threads()
    with pytest.raises(pool.Stopped):
        encode(1000, stop_after(1))
    assert not learning_threads()


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", Kind.RAW),
        (b"a", Kind.RAW),
        (noise(100), Kind.RAW),
        (noise(50_000), Kind.RAW),
        (skewed(700), None),
        (noise(30_000) * 2, Kind.LZMA),
    ],
    ids=["empty", "one byte", "little noise", "noise", "skewed", "noise twice"],
)
def test_choice_is_the_smallest(data, kind, preset):
    model, chosen = CountingModel(), blocks.PRESETS[preset]
    coded = blocks.encode_block(model, data, chosen)
    assert coded.kind is (kind or chosen.kind_of(len(data)))
    assert len(coded.payload) <= min(len(data), len(lempelziv.encode_lzma(data)))
    head = frames.make_head(coded.kind, len(data), coded.lanes, len(coded.payload))
    crc = frames.block_crc(head.raw, coded.payload, data)
    assert blocks.decode_block(model, Block(head, coded.payload, crc, model.fingerprint)) == data


@pytest.mark.parametrize("name", ["fast", "default"])
def test_zeros_are_for_lzma(name):
    assert blocks.encode_block(CountingModel(), bytes(100_000), blocks.PRESETS[name]).kind is Kind.LZMA


@pytest.mark.parametrize("limit", ["CLAIM_BYTES", "CLAIM_STEPS"])
def test_what_readers_would_not_believe_is_not_left_to_the_net(monkeypatch, limit):
    data, preset = skewed(3000), blocks.PRESETS["fast"]
    assert blocks.encode_block(CountingModel(), data, preset).kind is Kind.NET
    monkeypatch.setattr(frames, limit, 0)
    monkeypatch.setattr(frames, f"{limit}_MORE", 1)
    assert blocks.encode_block(CountingModel(), data, preset).kind is Kind.LZMA


def test_a_preset_says_how_the_net_is_used():
    data = skewed(300)
    for preset, kind in (("fast", Kind.NET), ("default", Kind.MIXED), ("best", Kind.LEARNING)):
        assert blocks.encode_block(CountingModel(), data, blocks.preset_of(preset)).kind is kind
    assert blocks.PRESETS["default"].kind_of(1 << 16) is Kind.LEARNING
    with pytest.raises(UsageError, match="fast, default, best"):
        blocks.preset_of("faster")


@pytest.mark.parametrize("kind", KINDS_OF_NET)
def test_a_kind_says_what_learns(kind):
    asked = []

    class Asked(CountingStack):
        def session(self, lanes: int, learn: Learn = "nothing") -> CountingSession:
            asked.append(learn)
            return super().session(lanes)

    payload = blocks.encode_net(Asked(), skewed(50), 1, 100, kind=kind)
    assert payload is not None
    blocks.decode_net(Asked(), payload, 50, 1, kind=kind)
    assert asked == [{Kind.NET: "nothing", Kind.MIXED: "readout", Kind.LEARNING: "all"}[kind]] * 2


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("seed", [1])
def test_no_preset_makes_more_of_a_block_than_lzma(preset, seed):
    """But for the heads: kind, two sizes, lanes, CRC; and the compact form's fingerprint is paid for."""
    lines = b"".join(b"%d,%d\n" % (number % 7, number * seed) for number in range(200))
    for data in (lines[:800], skewed(600, seed), noise(300, seed), skewed(40, seed) * 15, bytes(700)):
        model, chosen = CountingModel(), blocks.PRESETS[preset]
        least = min(len(data), len(lempelziv.encode_lzma(data)))
        assert len(blocks.encode_block(model, data, chosen).payload) <= least
        assert len(blocks.encode_frame(model, data, chosen)[1]) <= least + 11
        assert len(blocks.encode_compact(model, data, chosen)) <= least + 12


@pytest.mark.parametrize(
    ("share", "tried"), [(0.5, 1), (0.9, 2), (None, 2)], ids=["clear", "close", "behind"]
)
def test_without_learning_lzma_does_its_best_only_where_it_may_win(monkeypatch, share, tried):
    data, presets = skewed(3000), []
    quick = len(lempelziv.encode_lzma(data, preset=blocks.QUICKEST))

    def encode(data: bytes, stop: Stop, preset: int = lempelziv.BEST) -> bytes:
        presets.append(preset)
        return lempelziv.encode_lzma(data, stop, preset)

    monkeypatch.setattr(blocks, "encode_lzma", encode)
    monkeypatch.setattr(blocks, "encode_net", lambda *_: None if share is None else bytes(int(share * quick)))
    coded = blocks.encode_block(CountingModel(), data, blocks.PRESETS["fast"])
    assert presets == [blocks.QUICKEST, lempelziv.BEST][:tried]
    assert (coded.kind is Kind.NET) == (share == 0.5)
    assert len(coded.payload) <= len(lempelziv.encode_lzma(data))


def test_noise_costs_the_net_nothing():
    model = CountingModel()
    blocks.encode_block(model, noise(lempelziv.NOISE_BYTES))
    assert model.sessions == 0


@pytest.mark.parametrize("n_bytes", [1 << 14, 1 << 15, 1 << 19])
def test_noise_is_recognised(n_bytes):
    assert lempelziv.looks_like_noise(noise(n_bytes))
    assert not lempelziv.looks_like_noise(noise(n_bytes)[: n_bytes // 2] + bytes(n_bytes // 2))
    assert not lempelziv.looks_like_noise(skewed(n_bytes))


def test_noise_that_repeats_itself_is_no_noise():
    data = noise(200_000)
    assert lempelziv.only_noise(data)
    assert not lempelziv.repeats_itself(data)
    for shift in range(8):
        again = data[:100_000] + b"x" * shift + data[40_000:60_000]
        assert lempelziv.repeats_itself(again)
        assert not lempelziv.only_noise(again)


def test_even_counts_alone_are_no_noise():
    """Bytes that lzma predicts from the ones before them although all are equally frequent."""
    steps = np.frombuffer(noise(100_000), dtype=np.uint8) >> 3
    data = np.cumsum(steps, dtype=np.uint8).tobytes()
    assert lempelziv.looks_like_noise(data)
    assert not lempelziv.only_noise(data)
    assert blocks.encode_block(CountingModel(), data).kind is Kind.LZMA


def test_compact_net_must_pay_for_its_fingerprint(preset):
    """Five bytes more around the payload than around a stored one."""
    model = CountingModel()
    for n_bytes in range(1, 120, 1 if preset == "fast" else 7):
        data = skewed(n_bytes, seed=n_bytes)
        assert len(blocks.encode_compact(model, data, blocks.PRESETS[preset])) <= n_bytes + 9


def test_lzma_does_not_depend_on_pieces(monkeypatch):
    data = (noise(10_000) + skewed(40_000)) * 2
    packed = lempelziv.encode_lzma(data)
    for piece in (1000, 1 << 30):
        monkeypatch.setattr(lempelziv, "PIECE_BYTES", piece)
        assert lempelziv.encode_lzma(data) == packed
        assert lempelziv.looks_like_noise(noise(50_000))
    with pytest.raises(pool.Stopped):
        lempelziv.encode_lzma(data, stop=lambda: True)


def test_lzma_is_not_behind_xz_where_bytes_are_aligned(monkeypatch):
    """Samples of 16 bits without a zero byte: what would be text to `encode_lzma`. The net has no say here."""
    monkeypatch.setattr(blocks, "encode_net", lambda *_: None)
    samples = (8000 * np.sin(np.arange(20_000) / 50) + np.frombuffer(noise(20_000), np.uint8)).astype("<i2")
    data = samples.tobytes().replace(b"\0", b"\1")
    assert len(lempelziv.smallest_lzma(data)) < 0.99 * len(lempelziv.encode_lzma(data))
    xz = lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)
    for name in ("default", "best"):
        coded = blocks.encode_block(CountingModel(), data, blocks.PRESETS[name])
        assert len(coded.payload) <= len(xz) - 12 - 12
    assert lempelziv.smallest_lzma(bytes(1000)) == lempelziv.encode_lzma(bytes(1000))


@pytest.mark.parametrize("spoil", [lambda p: p[:-1], lambda p: p + b"\0", lambda p: b"\xff" + p[1:]])
def test_lzma_that_is_not_what_it_claims(spoil):
    data = bytes(5000)
    packed = lempelziv.encode_lzma(data)
    assert lempelziv.decode_lzma(packed, len(data)) == data
    with pytest.raises(CorruptArchive):
        lempelziv.decode_lzma(spoil(packed), len(data))
    for wrong in (len(data) - 1, len(data) + 1):
        with pytest.raises(CorruptArchive):
            lempelziv.decode_lzma(packed, wrong)


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
