"""The container alone: no model, no content."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path
from zlib import crc32

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chunker.codec import archive, frames
from chunker.codec.archive import BlockInfo, Parser, read_entries, read_info
from chunker.codec.frames import Kind
from chunker.errors import (
    ArchiveError,
    ArchiveVersionError,
    CorruptArchive,
    NotAnArchive,
    TruncatedArchive,
)

FINGERPRINT = bytes(range(16))


class Unseekable(io.BytesIO):
    def seekable(self) -> bool:
        return False

    def seek(self, *_: object) -> int:
        raise io.UnsupportedOperation("seek")


def full(fields: list[tuple[Kind, int, int, bytes]]) -> bytes:
    """A full archive of blocks (kind, size, lanes, payload); contents are zeros."""
    out, heads = frames.full_start(FINGERPRINT), b""
    crc = 0
    for kind, size, lanes, payload in fields:
        head = frames.make_head(kind, size, lanes, len(payload))
        out += frames.block_frame(head, payload, bytes(size))
        heads += head.raw
        crc = crc32(bytes(size), crc)
    return out + frames.trailer(heads, crc)


def parse(data: bytes, step: int = 1 << 20) -> tuple[list[archive.Block], Parser]:
    parser = Parser()
    found = []
    for at in range(0, len(data), step):
        parser.feed(data[at : at + step])
        while (block := parser.next_block()) is not None:
            found.append(block)
    return found, parser


FIELDS = [
    (Kind.RAW, 3, 0, bytes(3)),
    (Kind.LZMA, 300, 0, b"packed"),
    (Kind.NET, 5000, 7, b"coded"),
    (Kind.NET, 9, 1, b""),
    (Kind.MIXED, 700, 3, b"mixed"),
    (Kind.LEARNING, 5000, 256, b"learnt"),
]
FULL = full(FIELDS)
COMPACT = frames.compact_archive(Kind.NET, 1, b"payload", bytes(60), FINGERPRINT)
COMPACT_LANES = frames.compact_archive(Kind.NET, 3, b"payload", bytes(600), FINGERPRINT)
COMPACT_MIXED = frames.compact_archive(Kind.MIXED, 1, b"payload", bytes(60), FINGERPRINT)
COMPACT_MIXED_LANES = frames.compact_archive(Kind.MIXED, 3, b"payload", bytes(600), FINGERPRINT)
COMPACT_LEARNING = frames.compact_archive(Kind.LEARNING, 1, b"payload", bytes(60), FINGERPRINT)
COMPACT_LEARNING_LANES = frames.compact_archive(Kind.LEARNING, 256, b"payload", bytes(600), FINGERPRINT)
COMPACT_RAW = frames.compact_archive(Kind.RAW, 0, b"raw", b"raw", FINGERPRINT)
EMPTY = frames.compact_archive(Kind.RAW, 0, b"", b"", FINGERPRINT)
NO_BLOCKS = full([])
ALL = [
    FULL,
    COMPACT,
    COMPACT_LANES,
    COMPACT_MIXED,
    COMPACT_MIXED_LANES,
    COMPACT_LEARNING,
    COMPACT_LEARNING_LANES,
    COMPACT_RAW,
    EMPTY,
    NO_BLOCKS,
]


def test_golden_frames():
    """A change here breaks every archive ever written."""
    assert COMPACT_RAW.hex() == "a74e48110372617756cba326"
    assert EMPTY.hex() == "a74e481100fd64be52"
    assert COMPACT.hex() == "a74e4813000102033c077061796c6f6164596203ed"
    assert COMPACT_LANES.hex() == "a74e481400010203d80407037061796c6f61644b332064"
    assert COMPACT_MIXED.hex() == "a74e4815000102033c077061796c6f6164402f30d3"
    assert COMPACT_MIXED_LANES.hex() == "a74e481600010203d80407037061796c6f61640a625984"
    assert COMPACT_LEARNING.hex() == "a74e4817000102033c077061796c6f6164b7ebdec6"
    assert COMPACT_LEARNING_LANES.hex() == "a74e481800010203d8040780027061796c6f61649e544e3e"
    assert NO_BLOCKS.hex() == (
        "a74e481000"
        + "0001020304050607"
        + "6284ec1e"
        + "00"
        + "00000000"
        + "0500000000000000"
        + "e6489447"
        + "484ea7"
    )


def test_overhead_bytes():
    assert len(COMPACT_RAW) - 3 == 9
    assert len(COMPACT) - 7 == 14
    assert len(NO_BLOCKS) == frames.START_BYTES + 5 + frames.FOOTER_BYTES == 37
    assert frames.make_head(Kind.RAW, 1 << 19, 0, 1 << 19).stored_size - (1 << 19) == 8


@given(value=st.integers(0, (1 << 28) - 1))
def test_varint_round_trip(value):
    data = frames.varint(value)
    assert frames.read_varint(b"x" + data + b"y", 1) == (value, 1 + len(data))


@pytest.mark.parametrize("data", [b"\x80\x00", b"\xff\xff\x80\x00", b"\x80\x80\x80\x80\x01", b"\xff" * 9])
def test_varint_has_one_spelling(data):
    with pytest.raises(CorruptArchive):
        frames.read_varint(data, 0)


@given(step=st.integers(1, 80), order=st.lists(st.sampled_from(ALL), max_size=5))
def test_parser_in_pieces(step, order):
    for data in [*order, FULL]:
        found, parser = parse(data, step)
        assert parser.eof
        assert parser.consumed_bytes == len(data)
        assert found == parse(data)[0]
        assert not parser.buffer


def test_parser_gives_the_fields_back():
    found, parser = parse(FULL + b"more")
    assert [(b.head.kind, b.head.size, b.head.lanes, b.payload) for b in found] == FIELDS
    assert {b.fingerprint for b in found} == {FINGERPRINT[:8]}
    assert parser.buffer == b"more"
    [block] = parse(COMPACT_LANES)[0]
    assert (block.head.size, block.head.lanes, block.payload) == (600, 3, b"payload")
    assert block.fingerprint == FINGERPRINT[:4]
    block.check(bytes(600))


@pytest.mark.parametrize("data", ALL)
def test_parser_waits_at_every_cut(data):
    for size in range(len(data)):
        _, parser = parse(data[:size])
        assert not parser.eof, size
        with pytest.raises(TruncatedArchive):
            raise parser.cut_off()
        with pytest.raises(TruncatedArchive):
            read_info(io.BytesIO(data[:size]))


@given(order=st.lists(st.sampled_from(ALL), min_size=1, max_size=6))
def test_index_and_reading_through_agree(order):
    data = b"".join(order)
    info = read_info(io.BytesIO(data))
    assert info == read_info(Unseekable(data))
    assert info.archives == len(order)
    assert info.bytes_out == len(data)
    assert info.bytes_in == sum(block.bytes_in for block in info.blocks)
    entries = read_entries(io.BytesIO(data))
    walked = archive._walk(io.BytesIO(data), None)[0].entries()
    assert entries == list(walked)
    file = io.BytesIO(data)
    for entry, block in zip(entries, (b for one in order for b in parse(one)[0]), strict=True):
        assert entry.read(file) == block


def test_read_info():
    info = read_info(io.BytesIO(COMPACT_RAW + FULL + COMPACT))
    assert info.version == 1
    assert info.fingerprint == FINGERPRINT[:8]
    assert info.fingerprints == (FINGERPRINT[:8], FINGERPRINT[:4])
    assert info.blocks[1] == BlockInfo(Kind.RAW, bytes_in=3, bytes_out=2 + 3 + 4, lanes=0)
    assert read_info(io.BytesIO(COMPACT_RAW)).fingerprint == b""


class Reads(io.BytesIO):
    """Counts what is read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_the_index_is_found_from_the_end():
    big = full([(Kind.RAW, 50_000, 0, bytes(50_000))] * 4)
    file = Reads(big + big)
    assert read_info(file).bytes_in == 400_000
    assert file.count < 300


@pytest.mark.parametrize("bit", range(8))
def test_a_wrong_index_is_not_believed(bit):
    """Each flipped bit of the trailer is found although the blocks before it are sound."""
    begin = (
        len(FULL)
        - frames.FOOTER_BYTES
        - 5
        - sum(len(frames.make_head(k, s, n, len(p)).raw) for k, s, n, p in FIELDS)
    )
    for at in range(begin, len(FULL)):
        bad = bytearray(FULL)
        bad[at] ^= 1 << bit
        with pytest.raises(ArchiveError):
            read_info(io.BytesIO(bad))


def test_a_shrunken_file_is_noticed():
    entries = read_entries(io.BytesIO(FULL))
    with pytest.raises(TruncatedArchive):
        entries[2].read(io.BytesIO(FULL[:40]))


def block(*parts: bytes) -> bytes:
    return frames.full_start(FINGERPRINT) + b"".join(parts)


NET, LZMA, RAW, MIXED, LEARNING = (
    bytes([kind]) for kind in (Kind.NET, Kind.LZMA, Kind.RAW, Kind.MIXED, Kind.LEARNING)
)
IMPOSSIBLE = {
    "raw block of 4 MiB + 1": block(RAW, frames.varint((1 << 22) + 1)),
    "lzma block of 64 MiB + 1": block(LZMA, frames.varint((1 << 26) + 1), b"\x01"),
    "net block of 4 MiB + 1": block(NET, frames.varint((1 << 22) + 1), b"\x01\x01"),
    "learning block of 4 MiB + 1": block(LEARNING, frames.varint((1 << 22) + 1), b"\x01\x01"),
    "net block of 256 MiB": block(NET, frames.varint((1 << 28) - 1), b"\x01\x01"),
    "number of 5 bytes": block(LZMA, b"\xff\xff\xff\xff\x0f"),
    "empty block": block(RAW, b"\x00"),
    "empty net block": block(NET, b"\x00\x00\x01"),
    "payload as long as the content": block(NET, b"\x05\x05\x01"),
    "no lanes": block(NET, b"\x05\x01\x00"),
    "more lanes than bytes": block(NET, b"\x05\x01\x06"),
    "too many lanes": block(NET, frames.varint(1 << 20), b"\x01", frames.varint(4097)),
    "no lanes of a mixed block": block(MIXED, b"\x05\x01\x00"),
    "no lanes of a learning block": block(LEARNING, b"\x05\x01\x00"),
    "too many lanes of a mixed block": block(MIXED, frames.varint(1 << 20), b"\x01", frames.varint(257)),
    "too many lanes of a learning block": block(
        LEARNING, frames.varint(1 << 20), b"\x01", frames.varint(257)
    ),
    "content that no payload so short can hold": block(
        NET, frames.varint((1 << 16) + (1 << 12) + 1), b"\x01", frames.varint(4096)
    ),
    "steps that no payload so short can hold": block(
        LEARNING, frames.varint(2 * ((1 << 14) + 3 * (1 << 8)) + 1), b"\x03\x02"
    ),
    "compact content in 17 bytes": frames.MAGIC + b"\x13abcd\x80\x80\x80\x02\x00",
    "unknown kind": block(b"\x06\x01"),
    "compact terabytes": frames.MAGIC + b"\x11\xff\xff\xff\xff\xff\x7f",
    "compact lzma of 64 MiB + 1": frames.MAGIC + b"\x12" + frames.varint((1 << 26) + 1) + b"\x01",
    "compact lanes": frames.MAGIC + b"\x14abcd" + frames.varint(5000) + b"\x01" + frames.varint(4999),
    "compact mixed lanes": frames.MAGIC + b"\x16abcd" + frames.varint(1000) + b"\x01" + frames.varint(257),
    "compact learning lanes": frames.MAGIC + b"\x18abcd" + frames.varint(1000) + b"\x01" + frames.varint(257),
    "compact no lanes": frames.MAGIC + b"\x18abcd" + frames.varint(1000) + b"\x01\x00",
    "version 0": frames.MAGIC + b"\x00",
}


POSSIBLE = {
    "content": block(NET, frames.varint((1 << 16) + (1 << 12)), b"\x01", frames.varint(4096)),
    "steps": block(LEARNING, frames.varint(2 * ((1 << 14) + 3 * (1 << 8))), b"\x03\x02"),
}


@pytest.mark.parametrize("data", POSSIBLE.values(), ids=POSSIBLE.keys())
def test_what_a_payload_may_just_hold_is_read_on(data):
    blocks, parser = parse(data)
    assert not blocks
    assert not parser.eof


@pytest.mark.parametrize("data", IMPOSSIBLE.values(), ids=IMPOSSIBLE.keys())
def test_impossible_fields_are_refused_at_once(data):
    """Before a byte of what they announce is there."""
    with pytest.raises(CorruptArchive) as caught:
        parse(data)
    assert "\n" not in str(caught.value)
    with pytest.raises(CorruptArchive):
        read_info(io.BytesIO(data))


@pytest.mark.parametrize(
    "data",
    [
        frames.MAGIC + b"\x20",
        frames.MAGIC + b"\xf1",
        frames.MAGIC + b"\x19",
        (s := frames.full_start(b"12345678")[:4] + b"\x01" + b"12345678") + crc32(s).to_bytes(4, "little"),
    ],
    ids=["version 2", "version 15", "unknown form", "unknown method"],
)
def test_newer_versions(data):
    with pytest.raises(ArchiveVersionError, match="upgrade chunker"):
        parse(data)


@pytest.mark.parametrize("data", [b"x", b"\x1f\x8b\x08", b"\xa7NX", b"text\n" * 100])
def test_other_files(data):
    with pytest.raises(NotAnArchive):
        parse(data)
    with pytest.raises(NotAnArchive):
        read_info(io.BytesIO(data))


@settings(max_examples=200)
@given(tail=st.binary(max_size=300))
def test_any_bytes_end_in_an_answer_or_an_archive_error(tail):
    for begin in (b"", frames.MAGIC, frames.MAGIC + b"\x13", frames.full_start(FINGERPRINT)):
        try:
            _, parser = parse(begin + tail, 7)
        except ArchiveError:
            continue
        assert len(parser.buffer) <= len(begin + tail)


def test_listing_needs_no_numpy():
    size = sum(size for _, size, _, _ in FIELDS)
    code = (
        "import sys, io; from chunker.codec import archive;"
        f"assert archive.read_info(io.BytesIO(bytes.fromhex('{FULL.hex()}'))).bytes_in == {size};"
        "loaded = {'numpy', 'constriction', 'torch', 'rich'} & set(sys.modules); assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
