"""Encoded records in a row, with their lengths: a block.

    number of records | size of the lengths | lengths, deflated | encoded records | CRC

FORMAT.md, "A block".
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from itertools import accumulate, pairwise
from zlib import crc32

from chunker.codec.frames import read_varint, varint
from chunker.errors import CorruptArchive
from chunker.records.codec import RecordCodec

CRC_BYTES = 4
VARINT_BYTES = 4
MAX_LENGTHS_BYTES = 1 << 26


def damaged(what: str) -> CorruptArchive:
    """The error of a block that cannot be one."""
    return CorruptArchive(f"the file is damaged ({what}): fetch or restore it again")


def make_block(encoded: Sequence[bytes]) -> bytes:
    """A block of encoded records, each of at least one byte."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    lengths = packer.compress(b"".join(varint(len(each)) for each in encoded)) + packer.flush()
    block = b"".join((varint(len(encoded)), varint(len(lengths)), lengths, *encoded))
    return block + crc32(block).to_bytes(CRC_BYTES, "little")


def parse_block(block: bytes | memoryview) -> list[bytes]:
    """The encoded records of a block. Raises CorruptArchive."""
    content = bytes(block[:-CRC_BYTES])
    if crc32(content) != int.from_bytes(block[-CRC_BYTES:], "little"):
        raise damaged("a block fails its checksum")
    try:
        count, at = read_varint(content, 0)
        size, at = read_varint(content, at)
        lengths = _lengths(content[at : at + size], count)
    except IndexError:
        raise damaged("a block is too short") from None
    ends = [*accumulate(lengths, initial=at + size)]
    if ends[-1] != len(content):
        raise damaged("the lengths of a block's records are not its own")
    return [content[begin:end] for begin, end in pairwise(ends)]


def _lengths(packed: bytes, count: int) -> list[int]:
    """Raises CorruptArchive, IndexError."""
    unpacker = zlib.decompressobj(-15)
    try:
        data = unpacker.decompress(packed, min(VARINT_BYTES * count, MAX_LENGTHS_BYTES) + 1)
    except zlib.error:
        raise damaged("the lengths of a block's records cannot be read") from None
    if count > len(data):
        raise damaged("a block claims more records than it has lengths")
    lengths, at = [], 0
    for _ in range(count):
        length, at = read_varint(data, at)
        lengths.append(length)
    if at != len(data) or not unpacker.eof or unpacker.unused_data:
        raise damaged("a block has more lengths than records")
    return lengths


def encode_block(codec: RecordCodec, records: Sequence[bytes]) -> bytes:
    """Records as one block, encoded on all cores."""
    return make_block(codec.encode_many(records))


def decode_block(codec: RecordCodec, block: bytes | memoryview) -> list[bytes]:
    """The records of a block, decoded on all cores. Raises CorruptArchive."""
    return codec.decode_many(parse_block(block))
