"""One lzma block in place of a stretch of blocks: taken where it is smaller, to the same bytes whatever the way."""

from __future__ import annotations

import functools
import io
import lzma
import random

import numpy as np
import pytest
from counting_model import CountingModel, noise, skewed
from hypothesis import given
from hypothesis import strategies as st
from small_blocks import cut_small

from chunker.coding import blocks, files, frames, lempelziv, stretch
from chunker.coding.archive import ArchiveInfo, read_info
from chunker.coding.frames import Kind
from chunker.coding.pool import Pool, Stop
from chunker.coding.stream import BlockDecoder, Compressor, Decompressor, compress, contents, decompress
from chunker.errors import CorruptArchive

MODEL = CountingModel()
LEARNING = [name for name, preset in blocks.PRESETS.items() if preset.kind is Kind.LEARNING]


def info_of(packed: bytes) -> ArchiveInfo:
    return read_info(io.BytesIO(packed))


def blocks_of(packed: bytes) -> list[tuple[Kind, int]]:
    return [(block.kind, block.bytes_in) for block in info_of(packed).blocks]


def xz(data: bytes) -> int:
    return len(lzma.compress(data, preset=9 | lzma.PRESET_EXTREME))


# ---- which stretches there are ---------------------------------------------------------------------


@pytest.mark.parametrize("name", blocks.PRESETS)
@given(n_bytes=st.integers(0, 300 << 20))
def test_stretches_cut_no_block_otherwise(name, n_bytes):
    preset = blocks.PRESETS[name]
    plan: list[int] = []
    left = n_bytes
    while taken := stretch.first_stretch(preset, min(left, preset.stretch_bytes)):
        assert sum(taken) <= preset.stretch_bytes <= frames.MAX_LZMA_BYTES
        plan += taken
        left -= sum(taken)
    assert left < preset.stretch_bytes or not preset.stretch_bytes
    assert plan + preset.plan(left) == preset.plan(n_bytes)


def test_a_file_below_64_mib_is_one_stretch():
    for name in LEARNING:
        preset = blocks.PRESETS[name]
        assert stretch.first_stretch(preset, (1 << 26) - 1) == []
        assert sum(stretch.first_stretch(preset, 1 << 26)) == (1 << 26) - 2 * preset.block_bytes


@pytest.fixture
def small_stretches(monkeypatch: pytest.MonkeyPatch) -> None:
    """As `small_blocks`, with more lanes, which takes less time."""
    cut_small(monkeypatch, lane_bytes=40)


# ---- round trips, with blocks of 1000 bytes, and stretches of 6000 while 8000 are left -------------


def far(n_bytes: int, seed: int = 0) -> bytes:
    """Repeats itself after 2500 bytes, which no block of 1000 sees."""
    return (noise(2500, seed) * (n_bytes // 2500 + 1))[:n_bytes]


MIXED = far(6000) + skewed(6000) + bytes(6000) + noise(6000, 3) + far(7000, 4)


@pytest.mark.usefixtures("small_stretches")
@pytest.mark.parametrize("n_bytes", [1999, 2000, 5999, 6000, 7999, 8000, 8001, 13_999, 14_000, 14_001])
def test_round_trip_around_the_borders(n_bytes):
    data = far(n_bytes)
    packed = compress(data, MODEL)
    assert decompress(packed, model=MODEL) == data
    sizes = [size for _, size in blocks_of(packed)]
    if n_bytes < 5000:
        assert sizes == blocks.PRESETS["default"].plan(n_bytes)
    elif n_bytes < 8000:
        assert sizes == [n_bytes]
    elif n_bytes < 14_000:
        assert sizes[0] == 6000
        assert sizes[1:] == ([n_bytes - 6000] if n_bytes - 6000 > 4000 else sizes[1:])
    else:
        assert sizes[:2] == [6000, 6000]


@pytest.mark.parametrize("name", LEARNING)
def test_stretches_that_are_taken_and_that_are_not(name, monkeypatch):
    cut_small(monkeypatch, lane_bytes=100)
    data = far(6000) + skewed(6000) + noise(6000, 3) + bytes(7000)
    packed = compress(data, MODEL, preset=name)
    found = blocks_of(packed)
    net = [(Kind.LEARNING, 1000)] * 6
    raw = [(Kind.RAW, 1000)] * 6
    assert found == [(Kind.LZMA, 6000), *net, *raw, (Kind.LZMA, 7000)]
    assert decompress(packed, model=MODEL) == data


@pytest.mark.usefixtures("small_stretches")
@pytest.mark.parametrize("name", LEARNING)
def test_nothing_depends_on_pieces_or_threads(name):
    packed = compress(MIXED, MODEL, preset=name, threads=1)
    for threads, step in ((2, 1 << 20), (8, 777), (1, 6000)):
        compressor = Compressor(MODEL, preset=name, threads=threads)
        pieces = [compressor.compress(MIXED[at : at + step]) for at in range(0, len(MIXED), step)]
        assert b"".join(pieces) + compressor.flush() == packed
        assert decompress(packed, model=MODEL, threads=threads) == MIXED


@pytest.mark.usefixtures("small_stretches")
def test_a_stretch_is_handed_out_before_the_next():
    compressor = Compressor(MODEL)
    assert compressor.compress(far(7999)) == b""
    first = compressor.compress(b"x")
    assert len(first) > 2500
    assert decompress(first + compressor.flush(), model=MODEL) == far(7999) + b"x"


@pytest.mark.usefixtures("small_stretches")
@pytest.mark.parametrize("max_length", [1, 500, 6000, 6001])
def test_decompressor_keeps_to_max_length(max_length):
    data = far(15_000)
    packed = compress(data, MODEL)
    decompressor = Decompressor(MODEL, threads=2)
    out = b""
    for at in range(0, len(packed), 1111):
        out += (piece := decompressor.decompress(packed[at : at + 1111], max_length))
        assert len(piece) <= max_length
        while not decompressor.needs_input and not decompressor.eof:
            out += (piece := decompressor.decompress(b"", max_length))
            assert len(piece) <= max_length
    assert decompressor.eof
    assert out == data


@pytest.mark.usefixtures("small_stretches")
@pytest.mark.parametrize("threads", [1, 3])
def test_seeking_in_a_stretch(threads):
    packed = compress(MIXED, MODEL) + compress(far(7000, 9), MODEL)
    plain = io.BytesIO(MIXED + far(7000, 9))
    drawn = random.Random(7)
    with files.open(io.BytesIO(packed), model=MODEL, threads=threads) as file:
        for _ in range(15):
            at, size = drawn.randrange(len(MIXED) + 7500), drawn.choice([1, 100, 3000])
            assert file.seek(at) == plain.seek(at)
            assert file.read(size) == plain.read(size)
        file.seek(0)
        assert file.read() == plain.getvalue()


# ---- the promise -----------------------------------------------------------------------------------

LINES = b"".join(b"%d: the %dth of them was %d\n" % (n, n % 13, n * n % 997) for n in range(120))
KINDS_OF_CONTENT = {
    "zeros": bytes(7000),
    "one line": b"The same line again and again.\n" * 200,
    "noise twice": far(5000),
    "noise at some distance": noise(2000) + skewed(3000) + noise(2000),
    "lines twice": LINES * 2,
    "letters": skewed(7500),
    "noise": noise(7500),
    "ramp": bytes(range(256)) * 29,
    "16 bits": np.arange(0x4101, 0x4101 + 3500, dtype="<u2").tobytes().replace(b"\0", b"\1"),
}


@pytest.mark.usefixtures("small_stretches")
@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize("data", KINDS_OF_CONTENT.values(), ids=KINDS_OF_CONTENT.keys())
def test_no_larger_than_xz(name, data):
    packed = compress(data, MODEL, preset=name)
    assert len(packed) <= 1.001 * xz(data) + 12 * (len(blocks_of(packed)) - 1)
    assert decompress(packed, model=MODEL) == data


@pytest.mark.parametrize("name", LEARNING)
@pytest.mark.parametrize(
    "data", [bytes(9_000_000), noise(1_100_000) * 4, b"\xff\xfe" * 3_000_000], ids=["zeros", "noise", "pairs"]
)
def test_no_larger_than_xz_in_earnest(name, data):
    """With blocks and stretches as they are."""
    packed = compress(data, CountingModel(), preset=name)
    assert len(packed) <= 1.001 * xz(data)
    assert blocks_of(packed) == [(Kind.LZMA, len(data))]
    assert decompress(packed) == data


# ---- what is left out ------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_stretches")
@pytest.mark.parametrize("threads", [1, 3])
def test_the_net_is_not_tried_where_lzma_is_far_smaller(threads):
    model = CountingModel()
    assert blocks_of(compress(bytes(7000), model, threads=threads)) == [(Kind.LZMA, 7000)]
    assert model.sessions == 0


@pytest.mark.usefixtures("small_stretches")
@pytest.mark.parametrize("threads", [1, 3])
def test_no_block_is_begun_once_they_are_too_large(threads):
    model, data = CountingModel(), noise(1000) * 2 + noise(1000) + noise(1000) + noise(1000) * 3
    assert blocks_of(compress(data, model, threads=threads)) == [(Kind.LZMA, 7000)]
    assert model.sessions <= 2 + (0 if threads == 1 else 2 * threads)


def test_noise_costs_lzma_nothing(monkeypatch):
    monkeypatch.setattr(stretch, "smallest_lzma", None)
    assert stretch.encode_whole(noise(100_000)) is None


def test_fast_makes_no_stretches():
    data = bytes(3 << 20)
    assert len(blocks_of(compress(data, MODEL, preset="fast"))) > 1


# ---- progress and the pool -------------------------------------------------------------------------


@pytest.mark.usefixtures("small_stretches")
@pytest.mark.parametrize("data", [b"", b"x", skewed(299), far(7000), MIXED], ids=len)
def test_progress_adds_up(preset, data):
    told: list[int] = []
    compressor = Compressor(MODEL, preset=preset, advance=told.append)
    compressor.compress(data)
    compressor.flush()
    assert sum(told) == len(data)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_pool_drops_what_runs(threads):
    pool = Pool(threads)

    def wait(stop: Stop) -> str:
        while not stop():
            pass
        return "stopped"

    waiting = [pool.submit(wait) for _ in range(3)]
    pool.drop()
    if threads > 1:
        assert waiting[0].result() == "stopped"
    assert pool.submit(lambda stop: stop()).result() is False
    pool.close()


# ---- reading ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("small_stretches")
@pytest.mark.parametrize("read", [functools.partial(decompress, model=MODEL), lambda d: readers(d)])
def test_damage_in_a_stretch(read):
    packed = compress(far(7000), MODEL)
    for at in range(frames.START_BYTES, len(packed), 97):
        bad = bytearray(packed)
        bad[at] ^= 16
        with pytest.raises(CorruptArchive):
            read(bytes(bad))


def readers(data: bytes) -> bytes:
    with files.open(io.BytesIO(data), model=MODEL) as file:
        return bytes(file.read())


@pytest.mark.usefixtures("small_stretches")
def test_not_much_is_decoded_ahead(monkeypatch):
    """However many cores there are, blocks of no more than the longest possible content wait."""
    data = far(60_000)
    packed = compress(data, MODEL)
    monkeypatch.setattr(frames, "MAX_LZMA_BYTES", 13_000)
    decoder = BlockDecoder(MODEL, threads=8)
    assert not decoder.feed(packed), "nothing more is to be read"
    out = b""
    while (content := decoder.next_content()) is not None:
        out += content
        assert sum(size for size, _ in decoder._waiting) <= 13_000
        assert len(decoder._waiting) <= 2
    assert decoder.eof
    assert out == data
    decoder.close()
    assert b"".join(contents(io.BytesIO(packed), MODEL, threads=8)) == data
    with files.open(io.BytesIO(packed), model=MODEL, threads=8) as file:
        file.seek(6500)
        assert file.read() == data[6500:]


def test_small_input_stays_compact():
    data = noise(30_000) * 2
    packed = compress(data, MODEL)
    assert packed[3] & 15 == frames.Form.LZMA
    assert len(packed) == len(lempelziv.smallest_lzma(data)) + 4 + 3 + 3 + 4
