"""Damage of every kind is an error of one line, found by whoever reads; no content is taken for good."""

from __future__ import annotations

import io
import itertools
import tracemalloc
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_blocks import cut_small
from stand_in import StandIn, fake_model, mixed, noise, skewed, use

from chunker.codec import archive, blocks, files, frames, lempelziv
from chunker.codec.frames import Coded, Kind
from chunker.codec.info import frame_info
from chunker.codec.stream import Decompressor, compress, decompress
from chunker.core.backend import Contexts, Settings, Stop
from chunker.errors import (
    ArchiveError,
    ArchiveVersionError,
    CorruptArchive,
    NotAnArchive,
    TruncatedArchive,
    WrongModel,
)

MODEL = fake_model()
WOKEN = Settings(Contexts.MANY, 300)
ALONE = Settings(Contexts.FEW, 0)


@pytest.fixture(scope="module", autouse=True)
def deflate() -> Iterator[None]:
    """The container is at stake, not the core: one that deflates stands in for it."""
    with pytest.MonkeyPatch.context() as patch:
        use(patch, StandIn())
        yield


def full_archive(data: bytes, block_bytes: int, preset: str | Settings = ALONE) -> bytes:
    """The full form whatever the size."""
    with pytest.MonkeyPatch.context() as patch:
        use(patch, StandIn())
        cut_small(patch, block_bytes, small_bytes=1)
        return compress(data, model=MODEL, workers=1, preset=preset)


def compact(data: bytes, preset: str | Settings = ALONE) -> bytes:
    """The compact form; what lzma makes 8 times smaller is left to it."""
    with pytest.MonkeyPatch.context() as patch:
        use(patch, StandIn())
        patch.setattr(blocks, "WORTHWHILE_BYTES", 100)
        patch.setattr(blocks, "MONOTONY", 8)
        return compress(data, model=MODEL, workers=1, preset=preset)


# Small enough for every bit and every length; between them all forms and kinds.
SMALL = {
    "compact raw": compact(b"seven b"),
    "compact empty": compact(b""),
    "compact lzma": compact(b"again and " * 30),
    "compact contexts": compact(skewed(70)),
    "compact stack": compact(skewed(70), WOKEN),
    "full": full_archive(noise(130) + skewed(130) + bytes(260), 130),
    "full, woken": full_archive(skewed(230), 120, WOKEN),
    "full, no blocks": frames.full_start(MODEL.fingerprint) + frames.trailer(b"", 0),
    "two": compact(skewed(50)) + compact(b"raw"),
}


def readers(data: bytes, at_most: int = 3) -> list[tuple[str, object]]:
    """What each way of reading all of it gives: content or the error."""

    def at_once() -> bytes:
        return decompress(data, model=MODEL, workers=1)

    def incremental() -> bytes:
        out, rest = b"", data
        while rest or not data:
            decompressor = Decompressor(model=MODEL, workers=1)
            fed = 0
            while fed < len(rest) and not decompressor.eof:
                out += decompressor.decompress(rest[fed : fed + 50])
                fed += 50
            if not decompressor.eof:
                raise TruncatedArchive("the end is missing")
            rest = decompressor.unused_data + rest[fed:]
        return out

    def opened() -> bytes:
        with files.open(io.BytesIO(data), model=MODEL, workers=1) as file:
            return bytes(file.read())

    results: list[tuple[str, object]] = []
    for read in (at_once, incremental, opened)[:at_most]:
        try:
            results.append((read.__name__, read()))
        except ArchiveError as error:
            results.append((read.__name__, error))
    return results


def assert_refused(data: bytes, what: object = "", at_most: int = 3) -> None:
    for name, result in readers(data, at_most):
        assert isinstance(result, ArchiveError), f"{what}: {name} took it for good"
        assert str(result)
        assert "\n" not in str(result)


def test_the_samples_are_good():
    forms = {data[3] & 15 for data in SMALL.values()}
    assert forms == {frames.FULL, *Kind}
    kinds = {b.kind for b in frame_info(SMALL["full"] + SMALL["full, woken"]).blocks}
    assert kinds == set(Kind)
    for data in SMALL.values():
        assert len({result for _, result in readers(data)}) == 1
        assert all(isinstance(result, bytes) for _, result in readers(data))


@pytest.mark.parametrize("name", SMALL)
def test_every_flipped_bit(name):
    good = SMALL[name]
    for at in range(len(good)):
        for bit in range(8):
            bad = bytearray(good)
            bad[at] ^= 1 << bit
            assert_refused(bytes(bad), (at, bit), at_most=3 if bit == at % 8 else 1)


@pytest.mark.parametrize("name", SMALL)
def test_every_truncation(name):
    good = SMALL[name]
    whole = len(compact(skewed(50))) if name == "two" else 0  # there the first archive ends
    for size in range(len(good)):
        if size != whole or size == 0:
            assert_refused(good[:size], size)
            with pytest.raises(TruncatedArchive):
                decompress(good[:size], model=MODEL)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize(
    "tail", [b"\0x", b"\0" * 600 + frames.MAGIC, b"\n", b"garbage", frames.MAGIC, frames.MAGIC[:1], b"\xa7NX"]
)
def test_trailing_garbage(name, tail):
    assert_refused(SMALL[name] + tail)


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("count", [1, 600, 2 * archive.READ_BYTES])
def test_padding_is_ignored(name, count):
    padded = SMALL[name] + bytes(count)
    assert decompress(padded, model=MODEL) == decompress(SMALL[name], model=MODEL)
    with files.open(io.BytesIO(padded), model=MODEL) as file:
        assert file.read() == decompress(SMALL[name], model=MODEL)
        assert file.seek(0, io.SEEK_END) == frame_info(padded).bytes_in
    assert frame_info(padded).padding_bytes == count
    assert frame_info(padded).blocks == frame_info(SMALL[name]).blocks


BIG = full_archive(mixed(3000) + noise(2000, 3) + bytes(2000) + skewed(3000, 4), 700)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_flipped_bits_of_a_bigger_archive(data):
    at = data.draw(st.integers(0, len(BIG) * 8 - 1))
    bad = bytearray(BIG)
    bad[at // 8] ^= 1 << at % 8
    with pytest.raises(ArchiveError):
        decompress(bad, model=MODEL)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_other_damage(data):
    """Bytes overwritten, lost, doubled or exchanged."""
    a, b, c = sorted(data.draw(st.lists(st.integers(0, len(BIG)), min_size=3, max_size=3)))
    way = data.draw(st.sampled_from(["overwrite", "lose", "double", "exchange"]))
    bad = {
        "overwrite": BIG[:a] + data.draw(st.binary(min_size=b - a, max_size=b - a)) + BIG[b:]
        if b - a < 50
        else BIG,
        "lose": BIG[:a] + BIG[b:],
        "double": BIG[:b] + BIG[a:],
        "exchange": BIG[:a] + BIG[b:c] + BIG[a:b] + BIG[c:],
    }[way]
    if bad != BIG:
        with pytest.raises(ArchiveError):
            decompress(bad, model=MODEL)


def test_lost_doubled_and_exchanged_blocks():
    """Each block is sound, but not the archive."""
    parser = archive.Parser()
    parser.feed(BIG)
    ends = [frames.START_BYTES]
    while parser.next_block() is not None:
        ends.append(parser.consumed_bytes)
    frame = [BIG[a:b] for a, b in itertools.pairwise(ends)]
    start, trailer = BIG[: ends[0]], BIG[ends[0] + sum(map(len, frame)) :]
    first = next(i for i in range(len(frame) - 1) if frame[i] != frame[i + 1])
    for order in (
        frame[1:],
        frame[:-1],
        frame + frame[-1:],
        [*frame[:first], frame[first + 1], frame[first], *frame[first + 2 :]],
    ):
        with pytest.raises(CorruptArchive):
            decompress(start + b"".join(order) + trailer, model=MODEL)
    assert decompress(start + b"".join(frame) + trailer, model=MODEL)


def test_exchanged_blocks_of_equal_heads_fail_the_whole_checksum():
    packed = full_archive(noise(400), 100)
    stored = Coded(Kind.RAW, None, bytes(100))
    a, size = frames.START_BYTES, frames.make_head(stored, 100).stored_size
    swapped = packed[:a] + packed[a + size : a + 2 * size] + packed[a : a + size] + packed[a + 2 * size :]
    with pytest.raises(CorruptArchive, match="content fails its checksum"):
        decompress(swapped, model=MODEL)


START = frames.full_start(MODEL.fingerprint)
HUGE = {
    "compact, 128 TB": frames.MAGIC + b"\x21" + b"\xff" * 6 + b"\x7f",
    "compact, 256 MB": frames.MAGIC + b"\x23" + b"\xff\xff\xff\x7f\x05",
    "block of 256 MB": START + b"\x03\xff\xff\xff\x7f\x05\x01",
    **{
        f"{kind.name} of 4 MB + 1": START
        + bytes([kind])
        + frames.varint((1 << 22) + 1)
        + frames.varint(1 << 20)
        for kind in Kind
    },
    "4 MB in 5 bytes": START + b"\x04\x80\x80\x80\x02\x05\x00\x01",
}


@pytest.mark.parametrize("data", HUGE.values(), ids=HUGE.keys())
def test_nothing_is_allocated_for_an_impossible_header(data):
    decompress(SMALL["compact stack"], model=MODEL)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptArchive):
            decompress(data, model=MODEL)
        with pytest.raises(CorruptArchive):
            frame_info(data)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_an_lzma_block_that_claims_too_much_takes_a_dictionary_at_most():
    packed = block_of_lzma(1 << 22, lempelziv.encode_lzma(bytes(1000), Stop()))
    tracemalloc.start()
    try:
        with pytest.raises(CorruptArchive, match="another length"):
            decompress(packed, model=MODEL, workers=1)
        assert tracemalloc.get_traced_memory()[1] < (1 << 22) + (1 << 20)
    finally:
        tracemalloc.stop()


def block_of_lzma(size: int, payload: bytes) -> bytes:
    """A full archive of one lzma block that claims that size."""
    head = frames.make_head(Coded(Kind.LZMA, None, payload), size)
    return frames.full_start(MODEL.fingerprint) + frames.block_frame(head, payload, b"")


def test_an_index_of_terabytes_is_not_loaded():
    bad = bytearray(SMALL["full"])
    bad[-15:-7] = (1 << 42).to_bytes(8, "little")
    tracemalloc.start()
    try:
        with pytest.raises(ArchiveError):
            frame_info(bad)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_possible_header_without_its_payload_is_only_cut_off():
    with pytest.raises(TruncatedArchive):
        decompress(
            frames.full_start(MODEL.fingerprint) + b"\x01" + frames.varint(1 << 22) + b"abc", model=MODEL
        )


@pytest.mark.parametrize("version", [1, *range(3, 16)])
def test_other_versions(version):
    for name in ("compact contexts", "compact stack", "full"):
        bad = bytearray(SMALL[name])
        bad[3] = version << 4 | bad[3] & 15
        with pytest.raises(ArchiveVersionError, match="unreleased" if version == 1 else "upgrade"):
            decompress(bad, model=MODEL)


@pytest.mark.parametrize(
    "data", [b"", b"x", b"PK\x03\x04", b"\x1f\x8b\x08\0", noise(100), b"plain text\n" * 9]
)
def test_no_archive_at_all(data):
    with pytest.raises((NotAnArchive, TruncatedArchive), match="check the name"):
        decompress(data, model=MODEL)


@pytest.mark.parametrize("name", ["compact stack", "full, woken"])
def test_the_fingerprint_is_believed_and_the_content_checked(name):
    with pytest.raises(CorruptArchive):
        decompress(SMALL[name], model=fake_model(MODEL.fingerprint[:-1] + b"x"))
    with pytest.raises(WrongModel):
        decompress(SMALL[name], model=fake_model(b"another model's fingerprint ...."))


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=2000))
def test_any_bytes_in(data):
    for reader in (lambda: decompress(data, model=MODEL), lambda: frame_info(data)):
        with pytest.raises(ArchiveError):
            reader()


@settings(max_examples=40, deadline=None)
@given(content=st.binary(max_size=3000), preset=st.sampled_from([ALONE, "fast", WOKEN, "best"]))
def test_any_bytes_survive(preset, content):
    packed = compress(content, model=MODEL, workers=1, preset=preset)
    assert decompress(packed, model=MODEL) == content
    assert len(packed) <= len(content) * 1.001 + 64


@pytest.mark.parametrize("n_bytes", [0, 1, 127, 128, 16_383, 65_535, 65_536, 1_000_000, 5_000_000])
def test_noise_grows_by_almost_nothing(preset, n_bytes):
    data = noise(n_bytes)
    packed = compress(data, model=MODEL, preset=preset)
    assert len(packed) <= n_bytes * 1.001 + 64
    assert decompress(packed) == data, "stored blocks need no model"
