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
from chunker.codec.archive import Parser, read_entries, read_table
from chunker.codec.frames import Coded, Kind
from chunker.codec.info import BlockInfo, frame_info
from chunker.core.backend import GATE_ALWAYS, Contexts, Settings
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


def full(blocks: list[tuple[Coded, int]]) -> bytes:
    """A full archive of blocks and their sizes; contents are zeros."""
    out, heads = frames.full_start(FINGERPRINT), b""
    crc = 0
    for coded, size in blocks:
        head = frames.make_head(coded, size)
        out += frames.block_frame(head, coded.payload, bytes(size))
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


def raw(n_bytes: int) -> tuple[Coded, int]:
    return Coded(Kind.RAW, None, bytes(n_bytes)), n_bytes


FEW, MANY, ALL_CONTEXTS = (Settings(contexts, 0, 0) for contexts in Contexts)
BLOCKS = [
    raw(3),
    (Coded(Kind.LZMA, None, b"packed"), 300),
    (Coded(Kind.CONTEXTS, FEW, b"coded"), 5000),
    (Coded(Kind.CONTEXTS, ALL_CONTEXTS, b""), 9),
    (Coded(Kind.STACK, Settings(Contexts.MANY, 1, 5), b"woken"), 700),
    (Coded(Kind.STACK, Settings(Contexts.ALL, GATE_ALWAYS, 0), b"always"), 5000),
]
FULL = full(BLOCKS)
COMPACT_RAW = frames.compact_archive(Coded(Kind.RAW, None, b"raw"), b"raw", FINGERPRINT)
EMPTY = frames.compact_archive(Coded(Kind.RAW, None, b""), b"", FINGERPRINT)
COMPACT_LZMA = frames.compact_archive(Coded(Kind.LZMA, None, b"packed"), bytes(600), FINGERPRINT)
COMPACT = frames.compact_archive(Coded(Kind.CONTEXTS, MANY, b"payload"), bytes(60), FINGERPRINT)
COMPACT_STACK = frames.compact_archive(
    Coded(Kind.STACK, Settings(Contexts.MANY, 1200, 0), b"payload"), bytes(60), FINGERPRINT
)
NO_BLOCKS = full([])
ALL = [FULL, COMPACT_RAW, EMPTY, COMPACT_LZMA, COMPACT, COMPACT_STACK, NO_BLOCKS]


def test_golden_frames():
    """A change here breaks every archive ever written."""
    assert COMPACT_RAW.hex() == "a74e4821037261772b986ea3"
    assert EMPTY.hex() == "a74e4821000e52f88d"
    assert COMPACT_LZMA.hex() == "a74e4822d804067061636b6564be950ac8"
    assert COMPACT.hex() == "a74e48233c07017061796c6f6164385d21d9"
    assert COMPACT_STACK.hex() == "a74e4824000102033c0701b0097061796c6f6164eb3205b6"
    assert NO_BLOCKS.hex() == (
        "a74e482000"
        + "0001020304050607"
        + "5a061f76"
        + "00"
        + "00000000"
        + "0500000000000000"
        + "e6489447"
        + "484ea7"
    )


def test_overhead_bytes():
    assert len(COMPACT_RAW) - 3 == 9
    assert len(COMPACT) - 7 == 11
    assert len(COMPACT_STACK) - 7 == 17
    assert len(NO_BLOCKS) == frames.START_BYTES + 5 + frames.FOOTER_BYTES == 37
    coded, size = raw(1 << 19)
    assert frames.make_head(coded, size).stored_size - size == 8


@pytest.mark.parametrize("settings", [FEW, Settings(Contexts.ALL, 127, 0), Settings(Contexts.ALL, 128, 19)])
@pytest.mark.parametrize("size", [20, 127, 128, 16_384, 1 << 20])
def test_what_a_block_of_the_core_costs_more_is_known_before(settings, size):
    """Exactly, where the payload is nearly as long as the content."""
    coded = Coded(frames.kind_of(settings), settings, bytes(size - 1))
    stored = raw(size)[0]
    for compact, packed in (
        (True, lambda coded: len(frames.compact_archive(coded, bytes(size), FINGERPRINT))),
        (False, lambda coded: frames.make_head(coded, size).stored_size),
    ):
        extra = packed(coded) - (size - 1) - (packed(stored) - size)
        allowed = frames.extra_bytes(settings, size, compact=compact)
        assert extra <= allowed <= extra + (size in (128, 16_384)), "a size below may have a shorter number"


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
    assert [(Coded(b.head.kind, b.head.settings, b.payload), b.head.size) for b in found] == BLOCKS
    assert {b.fingerprint for b in found} == {FINGERPRINT[:8]}
    assert parser.buffer == b"more"
    [block] = parse(COMPACT_STACK)[0]
    assert (block.head.size, block.head.settings, block.payload) == (
        60,
        Settings(Contexts.MANY, 1200, 0),
        b"payload",
    )
    assert block.fingerprint == FINGERPRINT[:4]
    block.check(bytes(60))


@pytest.mark.parametrize("data", ALL)
def test_parser_waits_at_every_cut(data):
    for size in range(len(data)):
        _, parser = parse(data[:size])
        assert not parser.eof, size
        with pytest.raises(TruncatedArchive):
            raise parser.cut_off()
        try:
            assert not frame_info(data[:size]).complete
        except TruncatedArchive:
            assert size < frames.START_BYTES


@given(order=st.lists(st.sampled_from(ALL), min_size=1, max_size=6))
def test_index_and_reading_through_agree(order):
    data = b"".join(order)
    info = frame_info(data)
    assert info == frame_info(Unseekable(data))
    assert info.archives == len(order)
    assert info.bytes_out == len(data)
    assert info.bytes_in == sum(block.bytes_in for block in info.blocks)
    entries = read_entries(io.BytesIO(data))
    walked = read_table(Unseekable(data)).entries()
    assert entries == walked
    file = io.BytesIO(data)
    for entry, block in zip(entries, (b for one in order for b in parse(one)[0]), strict=True):
        assert entry.read(file) == block


def test_frame_info():
    info = frame_info(COMPACT_RAW + FULL + COMPACT_STACK)
    assert info.version == 2
    assert info.fingerprints == (FINGERPRINT[:8], FINGERPRINT[:4])
    assert info.blocks[1] == BlockInfo(Kind.RAW, bytes_in=3, bytes_out=2 + 3 + 4, settings=None)
    assert info.blocks[-1].settings == Settings(Contexts.MANY, 1200, 0)
    assert info.models == (None, None)
    assert (info.complete, info.padding_bytes) == (True, 0)


@pytest.mark.parametrize("source", ["path", "file", "prefix"])
def test_frame_info_takes_bytes_files_and_paths(tmp_path, source):
    path = tmp_path / "a.nhc"
    path.write_bytes(FULL)
    given = {"path": path, "file": io.BytesIO(FULL), "prefix": FULL}[source]
    assert frame_info(given) == frame_info(FULL)
    assert frame_info(str(path)) == frame_info(FULL)


def test_frame_info_of_the_first_bytes():
    """As much as the heads that are there tell."""
    compact = frame_info(COMPACT_STACK[:17])
    assert (compact.bytes_in, compact.fingerprints, compact.complete) == (60, (FINGERPRINT[:4],), False)
    full_ = frame_info(FULL[: frames.START_BYTES + 40])
    assert full_.blocks == frame_info(FULL).blocks[: len(full_.blocks)]
    assert full_.blocks
    assert full_.bytes_in < frame_info(FULL).bytes_in
    assert not frame_info(FULL[:-1]).complete
    assert frame_info(FULL[:-1]).bytes_in == frame_info(FULL).bytes_in
    with pytest.raises(TruncatedArchive):
        frame_info(FULL[:9])


class Reads(io.BytesIO):
    """Counts what is read."""

    count = 0

    def read(self, size: int | None = -1, /) -> bytes:
        data = super().read(size)
        self.count += len(data)
        return data


def test_the_index_is_found_from_the_end():
    big = full([raw(50_000)] * 4)
    file = Reads(big + big)
    assert frame_info(file).bytes_in == 400_000
    assert file.count < 300


@pytest.mark.parametrize("bit", range(8))
def test_a_wrong_index_is_not_believed(bit):
    """Each flipped bit of the trailer is found although the blocks before it are sound."""
    begin = (
        len(FULL)
        - frames.FOOTER_BYTES
        - 5
        - sum(len(frames.make_head(coded, size).raw) for coded, size in BLOCKS)
    )
    for at in range(begin, len(FULL)):
        bad = bytearray(FULL)
        bad[at] ^= 1 << bit
        with pytest.raises(ArchiveError):
            frame_info(bad)


def test_a_shrunken_file_is_noticed():
    entries = read_entries(io.BytesIO(FULL))
    with pytest.raises(TruncatedArchive):
        entries[2].read(io.BytesIO(FULL[:40]))


def block(*parts: bytes) -> bytes:
    return frames.full_start(FINGERPRINT) + b"".join(parts)


RAW, LZMA, CONTEXTS, STACK = (bytes([kind]) for kind in Kind)
LONGEST = (1 << 16) + (1 << 12)  # that a payload of one byte may claim
IMPOSSIBLE = {
    **{
        f"{kind.name} of 4 MiB + 1": block(
            bytes([kind]), frames.varint((1 << 22) + 1), frames.varint(1 << 20)
        )
        for kind in Kind
    },
    "block of 256 MiB": block(CONTEXTS, frames.varint((1 << 28) - 1), b"\x01\x01"),
    "number of 5 bytes": block(LZMA, b"\xff\xff\xff\xff\x0f"),
    "empty block": block(RAW, b"\x00"),
    "empty block of the core": block(CONTEXTS, b"\x00\x00\x01"),
    "payload as long as the content": block(LZMA, b"\x05\x05"),
    "payload of the core as long as the content": block(CONTEXTS, b"\x05\x05\x01"),
    "content that no payload so short can hold": block(CONTEXTS, frames.varint(LONGEST + 1), b"\x01"),
    "content that no payload of a stack so short can hold": block(STACK, frames.varint(LONGEST + 1), b"\x01"),
    "no such contexts": block(CONTEXTS, b"\x05\x01\x03"),
    "no such contexts below a stack": block(STACK, b"\x05\x01\x03\x01"),
    "a stack that never wakes": block(STACK, b"\x05\x01\x00\x00"),
    "a gate that is too wide": block(STACK, b"\x05\x01\x00", frames.varint(GATE_ALWAYS + 1)),
    "unknown kind": block(b"\x05\x01"),
    "compact terabytes": frames.MAGIC + b"\x21\xff\xff\xff\xff\xff\x7f",
    "compact lzma of 4 MiB + 1": frames.MAGIC + b"\x22" + frames.varint((1 << 22) + 1) + b"\x01",
    "compact content in 12 bytes": frames.MAGIC + b"\x23\x80\x80\x80\x02\x00",
    "compact contexts": frames.MAGIC + b"\x23\x05\x01\x03",
    "compact gate": frames.MAGIC + b"\x24abcd\x05\x01\x00\x00",
    "version 0": frames.MAGIC + b"\x00",
}


POSSIBLE = {
    "contexts": block(CONTEXTS, frames.varint(LONGEST), b"\x01\x02"),
    "stack": block(STACK, frames.varint(LONGEST), b"\x01\x02", frames.varint(GATE_ALWAYS)),
    "lzma": block(LZMA, frames.varint(1 << 22), b"\x01"),
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
        frame_info(data)


@pytest.mark.parametrize(
    "data",
    [
        frames.MAGIC + b"\x30",
        frames.MAGIC + b"\xf1",
        frames.MAGIC + b"\x25",
        (s := frames.full_start(b"12345678")[:4] + b"\x01" + b"12345678") + crc32(s).to_bytes(4, "little"),
    ],
    ids=["version 3", "version 15", "unknown form", "unknown method"],
)
def test_newer_versions(data):
    with pytest.raises(ArchiveVersionError, match="upgrade chunker"):
        parse(data)


def test_the_version_before_the_first_release():
    with pytest.raises(ArchiveVersionError, match="unreleased version"):
        parse(frames.MAGIC + b"\x13abcd")


@pytest.mark.parametrize("data", [b"x", b"\x1f\x8b\x08", b"\xa7NX", b"text\n" * 100])
def test_other_files(data):
    with pytest.raises(NotAnArchive):
        parse(data)
    with pytest.raises(NotAnArchive):
        frame_info(data)


@settings(max_examples=200)
@given(tail=st.binary(max_size=300))
def test_any_bytes_end_in_an_answer_or_an_archive_error(tail):
    for begin in (b"", frames.MAGIC, frames.MAGIC + b"\x24", frames.full_start(FINGERPRINT)):
        try:
            _, parser = parse(begin + tail, 7)
        except ArchiveError:
            continue
        assert len(parser.buffer) <= len(begin + tail)


def test_listing_needs_no_numpy():
    size = sum(size for _, size in BLOCKS)
    code = (
        "import sys; from chunker.codec.info import frame_info;"
        f"assert frame_info(bytes.fromhex('{FULL.hex()}')).bytes_in == {size};"
        "loaded = {'numpy', 'torch', 'rich'} & set(sys.modules); assert not loaded, loaded"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parent.parent)
