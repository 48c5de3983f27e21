"""Which blocks a content is cut into, and the choice between raw, lzma and the core."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from stand_in import StandIn, fake_model, noise, skewed, use

from chunker.codec import blocks, frames, lempelziv, presets, samples
from chunker.codec.archive import Block
from chunker.codec.frames import Coded, Kind
from chunker.core.backend import GATE_ALWAYS, Contexts, Progress, Settings, Stop, Stopped
from chunker.errors import CorruptArchive, UsageError

MODEL = fake_model()
MB = 1 << 20


def encode(content: bytes, settings: Settings, *, compact: bool = False) -> Coded:
    model = MODEL if settings.needs_model else None
    return blocks.encode_block(content, settings, model, Stop(), Progress(), compact=compact)


def decode(coded: Coded, content: bytes) -> bytes:
    head = frames.make_head(coded, len(content))
    crc = frames.block_crc(head.raw, coded.payload, content)
    model = MODEL if coded.kind.needs_model else None
    return blocks.decode_block(Block(head, coded.payload, crc, MODEL.fingerprint), model, Stop(), Progress())


# ---- the plan --------------------------------------------------------------------------------------


@given(n_bytes=st.integers(0, 200 * MB))
def test_plan(n_bytes):
    plan = presets.plan(n_bytes)
    assert sum(plan) == n_bytes
    assert all(0 < size <= presets.BLOCK_BYTES <= frames.MAX_BLOCK_BYTES for size in plan)
    if n_bytes >= presets.BLOCK_BYTES:
        assert len(plan) % 2 == 0, "two cores have nothing to share"
        assert min(plan) >= presets.BLOCK_BYTES // 2


@given(n_bytes=st.integers(0, 40 * MB))
def test_an_input_that_arrives_in_pieces_is_cut_in_the_same_way(n_bytes):
    left, plan = n_bytes, []
    while left >= presets.STREAM_BYTES:
        plan += 2 * [presets.BLOCK_BYTES]
        left -= sum(plan[-2:])
    assert presets.plan(n_bytes) == plan + presets.last(left)


# They may be tuned, but not by accident.
@pytest.mark.parametrize(
    ("n_bytes", "expected"),
    [
        (0, []),
        (1, [1]),
        (4 * MB - 1, [4 * MB - 1]),
        (4 * MB, [2 * MB] * 2),
        (4 * MB + 1, [2 * MB + 1, 2 * MB]),
        (8 * MB, [4 * MB] * 2),
        (8 * MB + 3, [2 * MB + 1] * 3 + [2 * MB]),
        (16 * MB - 1, [4 * MB] * 3 + [4 * MB - 1]),
        (16 * MB, [4 * MB] * 4),
        (18 * MB, [4 * MB] * 2 + [10 * MB // 4] * 4),
        (24 * MB, [4 * MB] * 6),
    ],
)
def test_plans(n_bytes, expected):
    assert presets.plan(n_bytes) == expected


def test_presets():
    assert presets.settings_of("fast") == Settings(Contexts.FEW, 400)
    assert presets.settings_of("default") == Settings(Contexts.MANY, 600)
    assert presets.settings_of("best") == Settings(Contexts.ALL, GATE_ALWAYS)
    own = Settings(Contexts.ALL, 7)
    assert presets.settings_of(own) is own
    assert presets.without_model(own) == Settings(Contexts.ALL, 0)
    with pytest.raises(UsageError, match="fast, default, best"):
        presets.settings_of("faster")


# ---- the choice ------------------------------------------------------------------------------------

STEPS = np.cumsum(np.frombuffer(noise(100_000), dtype=np.uint8) >> 3, dtype=np.uint8).tobytes()
CHOICES = {
    "empty": (b"", Kind.RAW),
    "one byte": (b"a", Kind.RAW),
    "little noise": (noise(100), Kind.RAW),
    "noise": (noise(50_000), Kind.RAW),
    "text": (b"The same words in another order, or the other order of words.", None),
    "skewed": (skewed(70_000), None),
    "noise twice": (noise(30_000) * 2, None),
    "even counts": (STEPS, None),
    "zeros": (bytes(100_000), Kind.LZMA),
    "few zeros": (bytes(1000), None),
}


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize(("content", "kind"), CHOICES.values(), ids=CHOICES.keys())
def test_choice(preset, content, kind):
    settings = presets.PRESETS[preset]
    coded = encode(content, settings)
    assert coded.kind is (kind or frames.kind_of(settings))
    if coded.kind < Kind.CONTEXTS:
        assert coded.settings is None
    else:
        assert coded.settings == replace(settings, sample=samples.choose(content, frames.MAX_BLOCK_BYTES))
    assert decode(coded, content) == content


def test_noise_and_monotony_cost_the_core_nothing(stand_in, preset):
    for content in (noise(1 << 14), bytes(1 << 14), b"again and " * 5000):
        encode(content, presets.PRESETS[preset])
    assert stand_in.calls == 0


@pytest.mark.usefixtures("stand_in")
@pytest.mark.parametrize("compact", [False, True])
def test_the_core_must_pay_for_its_head(preset, compact):
    settings = presets.PRESETS[preset]
    kinds = set()
    for n_bytes in range(1, 300):
        content = skewed(n_bytes, seed=n_bytes)
        coded = encode(content, settings, compact=compact)
        kinds.add(coded.kind)
        stored = Coded(Kind.RAW, None, content)
        if compact:
            sizes = [
                len(frames.compact_archive(each, content, MODEL.fingerprint)) for each in (coded, stored)
            ]
        else:
            sizes = [frames.make_head(each, n_bytes).stored_size for each in (coded, stored)]
        assert sizes[0] < sizes[1] or coded.kind is Kind.RAW
    assert kinds == {Kind.RAW, frames.kind_of(settings)}


def test_what_readers_would_not_believe_is_not_left_to_the_core(monkeypatch):
    class TooGood(StandIn):
        def encode(self, *args, **more):
            self.calls += 1
            return b""

    core = use(monkeypatch, TooGood())
    content = skewed(1 << 17)
    coded = encode(content, presets.without_model("fast"))
    assert (core.calls, coded.kind) == (1, Kind.LZMA)
    assert decode(coded, content) == content
    assert encode(content[: 1 << 16], presets.without_model("fast")).kind is Kind.CONTEXTS


@pytest.mark.parametrize("content", [skewed(3000), bytes(50_000), noise(50_000)])
def test_coding_stops_on_request(stand_in, content):
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        blocks.encode_block(content, presets.without_model("fast"), None, stop, Progress())


@pytest.mark.usefixtures("stand_in")
def test_content_is_checked():
    stored = Coded(Kind.RAW, None, b"abc")
    assert decode(stored, b"abc") == b"abc"
    with pytest.raises(CorruptArchive, match="checksum"):
        decode(stored, b"abd")


def test_progress_ends_at_the_length_of_the_content(stand_in):
    for content in (b"abc", skewed(2000), bytes(20_000)):
        coded, progress = encode(content, presets.without_model("fast")), Progress()
        head = frames.make_head(coded, len(content))
        block = Block(head, coded.payload, frames.block_crc(head.raw, coded.payload, content), b"")
        blocks.decode_block(block, None, Stop(), progress)
        assert progress.value == len(content)


# ---- lzma ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_bytes", [1 << 14, 1 << 15, 1 << 19])
def test_noise_is_recognised(n_bytes):
    assert lempelziv.looks_like_noise(noise(n_bytes))
    assert not lempelziv.looks_like_noise(noise(n_bytes)[: n_bytes // 2] + bytes(n_bytes // 2))
    assert not lempelziv.looks_like_noise(skewed(n_bytes))


def test_lzma_does_not_depend_on_pieces(monkeypatch):
    data = (noise(10_000) + skewed(40_000)) * 2
    packed = lempelziv.encode_lzma(data, Stop())
    for piece in (1000, 1 << 30):
        monkeypatch.setattr(lempelziv, "PIECE_BYTES", piece)
        assert lempelziv.encode_lzma(data, Stop()) == packed
    assert lempelziv.decode_lzma(packed, len(data)) == data


@pytest.mark.parametrize("spoil", [lambda p: p[:-1], lambda p: p + b"\0", lambda p: b"\xff" + p[1:]])
def test_lzma_that_is_not_what_it_claims(spoil):
    data = bytes(5000)
    packed = lempelziv.encode_lzma(data, Stop())
    assert lempelziv.decode_lzma(packed, len(data)) == data
    with pytest.raises(CorruptArchive):
        lempelziv.decode_lzma(spoil(packed), len(data))
    for wrong in (len(data) - 1, len(data) + 1):
        with pytest.raises(CorruptArchive):
            lempelziv.decode_lzma(packed, wrong)
