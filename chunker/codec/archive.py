"""Reading the container: an incremental parser, and the table of blocks of a whole file.

Pure bytes: no core, no numpy, so that listing an archive costs nothing. `frames.py` holds the single parts.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO
from zlib import crc32

from chunker.codec import frames
from chunker.codec.frames import Bytes, Head, Kind, Start, damaged
from chunker.core.backend import Settings
from chunker.errors import ArchiveError, TruncatedArchive

READ_BYTES = 1 << 17
# A longer index is not loaded; the archive is then read from its start. It is enough for 20 TB.
MAX_INDEX_BYTES = 1 << 26


@dataclass(frozen=True)
class Block:
    """A block as it was read: its container is sound, its content is not yet known."""

    head: Head
    payload: bytes
    crc: int
    fingerprint: bytes

    def check(self, content: bytes) -> None:
        """Raise CorruptArchive unless `content` is what was compressed."""
        if len(content) != self.head.size:
            raise damaged("a block has another length than it claims")
        if frames.block_crc(self.head.raw, self.payload, content) != self.crc:
            raise damaged("a block fails its checksum")


class Parser:
    """Turns bytes, in pieces of any size, into blocks; holds one block and the heads of all.

    `next_block` gives None at the end of an archive (`eof`) and where more bytes are needed. What follows
    the end stays in `buffer`; `restart` goes on with it as the next archive of a concatenation.
    """

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.consumed_bytes = 0
        self.archives = 0
        self._begin()

    def _begin(self) -> None:
        self.start: Start | None = None
        self.eof = False
        self.content_crc: int | None = None
        self._heads = bytearray()

    def restart(self) -> None:
        """Begin the next archive. Bytes that are none raise CorruptArchive: they are trailing garbage."""
        self._begin()

    def feed(self, data: Bytes) -> None:
        """Take over more bytes."""
        self.buffer += data

    def next_block(self) -> Block | None:
        """The next complete block. Raises NotAnArchive, ArchiveVersionError, CorruptArchive."""
        if self.eof or not self.buffer:
            return None
        if self.start is None:
            self._read_start()
            if self.start is None:
                return None
        compact = self.start.head is not None
        if not compact and self.buffer and self.buffer[0] == frames.END_OF_BLOCKS:
            self._read_trailer()
            return None
        head = self.start.head or frames.read_head(self.buffer)
        if head is None or len(self.buffer) < head.stored_size:
            return None
        if compact:
            self._finish()
        else:
            self._heads += head.raw
        stored = self._take(head.stored_size)
        end = len(head.raw) + head.payload_size
        crc = int.from_bytes(stored[end:], "little")
        return Block(head, stored[len(head.raw) : end], crc, self.start.fingerprint)

    def cut_off(self) -> TruncatedArchive:
        """The error to raise where the input ends and `eof` is not reached."""
        seen = self.consumed_bytes + len(self.buffer)
        if seen == 0:
            return TruncatedArchive("the input is empty, so it is no archive: check the name")
        return TruncatedArchive(f"the archive is cut off after {seen} bytes: fetch or restore it again")

    def _read_start(self) -> None:
        if self.archives and not frames.MAGIC.startswith(self.buffer[: len(frames.MAGIC)]):
            raise damaged(f"what follows after {self.consumed_bytes} bytes is no archive")
        self.start = frames.read_start(self.buffer)
        if self.start is not None and self.start.head is None:
            self._take(frames.START_BYTES)

    def _read_trailer(self) -> None:
        expected = bytes([frames.END_OF_BLOCKS]) + self._heads
        if self.buffer[: len(expected)] != expected[: len(self.buffer)]:
            raise damaged("its index does not fit its blocks")
        index_size = len(expected) + frames.CRC_BYTES
        size = index_size + frames.FOOTER_BYTES
        if len(self.buffer) < size:
            return
        found = self._take(size)
        content_crc = int.from_bytes(found[len(expected) : index_size], "little")
        if found != frames.trailer(bytes(self._heads), content_crc):
            raise damaged("its index fails its checksum")
        self.content_crc = content_crc
        self._finish()

    def _finish(self) -> None:
        self.eof = True
        self.archives += 1

    def _take(self, size: int) -> bytes:
        taken = bytes(self.buffer[:size])
        del self.buffer[:size]
        self.consumed_bytes += size
        return taken


@dataclass(frozen=True)
class Entry:
    """Where a block lies: `content_at` in what was compressed, `payload_at` in the file."""

    head: Head
    content_at: int
    payload_at: int
    fingerprint: bytes

    def read(self, file: BinaryIO) -> Block:
        """The block itself. Raises TruncatedArchive."""
        file.seek(self.payload_at)
        wanted = self.head.payload_size + frames.CRC_BYTES
        stored = file.read(wanted)
        if len(stored) < wanted:
            raise TruncatedArchive("the archive became shorter while it was read: open it again")
        payload, crc = stored[: self.head.payload_size], stored[self.head.payload_size :]
        return Block(self.head, payload, int.from_bytes(crc, "little"), self.fingerprint)


@dataclass(frozen=True)
class BlockInfo:
    """One line of a listing; bytes_in before and bytes_out after compression, head and CRC included."""

    kind: Kind
    bytes_in: int
    bytes_out: int
    settings: Settings | None


@dataclass(frozen=True)
class ArchiveInfo:
    """What an archive says about itself; several, if they were concatenated."""

    bytes_in: int
    bytes_out: int
    blocks: list[BlockInfo]
    fingerprints: tuple[bytes, ...]
    """8 bytes each, 4 from a compact archive, in order, without repetition; none if no block needs a model."""
    version: int
    archives: int

    @property
    def fingerprint(self) -> bytes:
        """The first of `fingerprints`, b"" if there is none."""
        return self.fingerprints[0] if self.fingerprints else b""


@dataclass
class _Table:
    """Blocks in the order of the file, built archive by archive."""

    starts: list[Start]
    blocks: list[tuple[Head, int, bytes]]

    def entries(self) -> Iterator[Entry]:
        content_at = 0
        for head, payload_at, fingerprint in self.blocks:
            yield Entry(head, content_at, payload_at, fingerprint)
            content_at += head.size


def read_entries(file: BinaryIO) -> list[Entry]:
    """All blocks of a seekable file, from its index where it has one. Raises ArchiveError."""
    return list(_read_table(file)[0].entries())


def read_info(file: BinaryIO) -> ArchiveInfo:
    """What `chunker list` shows; `file` need not be seekable. No content is decoded or checked.

    Raises NotAnArchive, TruncatedArchive, CorruptArchive, ArchiveVersionError.
    """
    table, bytes_out = _read_table(file)
    infos = [BlockInfo(head.kind, head.size, head.stored_size, head.settings) for head, _, _ in table.blocks]
    needed = (print_ for head, _, print_ in table.blocks if head.kind.needs_model)
    return ArchiveInfo(
        bytes_in=sum(info.bytes_in for info in infos),
        bytes_out=bytes_out,
        blocks=infos,
        fingerprints=tuple(dict.fromkeys(needed)),
        version=max(start.version for start in table.starts),
        archives=len(table.starts),
    )


def _read_table(file: BinaryIO) -> tuple[_Table, int]:
    """The table and the bytes of the file: by the indexes from the end back, else by reading it through."""
    if not file.seekable():
        return _walk(file, None)
    end = bytes_out = file.seek(0, io.SEEK_END)
    later: list[_Table] = []
    while end > 0:
        found = _read_last(file, end)
        if found is None:
            break
        table, end = found
        later.append(table)
    if end > 0 or not later:
        file.seek(0)
        later.append(_walk(file, end)[0])
    parts = later[::-1]
    joined = _Table([s for part in parts for s in part.starts], [b for part in parts for b in part.blocks])
    return joined, bytes_out


def _walk(file: BinaryIO, end: int | None) -> tuple[_Table, int]:
    """The table of the archives up to `end` (None: the end of the file), by reading all of them."""
    parser = Parser()
    table = _Table([], [])
    while True:
        block = parser.next_block()
        if block is not None:
            payload_at = parser.consumed_bytes - frames.CRC_BYTES - len(block.payload)
            table.blocks.append((block.head, payload_at, block.fingerprint))
            continue
        if parser.eof and parser.start is not None:
            table.starts.append(parser.start)
        if not parser.eof or not parser.buffer:
            seen = parser.consumed_bytes + len(parser.buffer)
            data = file.read(READ_BYTES if end is None else min(READ_BYTES, end - seen))
            if not data and parser.eof:
                return table, seen
            if not data:
                raise parser.cut_off()
            parser.feed(data)
        if parser.eof:
            parser.restart()


def _read_last(file: BinaryIO, end: int) -> tuple[_Table, int] | None:
    """(table, first byte) of the full archive that ends at `end`; None if there is no sound one."""
    if end < frames.START_BYTES + frames.FOOTER_BYTES:
        return None
    file.seek(end - frames.FOOTER_BYTES)
    footer = file.read(frames.FOOTER_BYTES)
    index_size = int.from_bytes(footer[:8], "little")
    index_at = end - frames.FOOTER_BYTES - index_size
    shortest = 1 + frames.CRC_BYTES
    if not footer.endswith(frames.END_MAGIC) or not shortest <= index_size <= MAX_INDEX_BYTES or index_at < 0:
        return None
    file.seek(index_at)
    index = file.read(index_size)
    if crc32(footer[:8], crc32(index)).to_bytes(frames.CRC_BYTES, "little") != footer[8:-3]:
        return None
    try:
        heads = list(frames.read_heads(index[1 : -frames.CRC_BYTES]))
        begin = index_at - sum(head.stored_size for head in heads) - frames.START_BYTES
        if begin < 0:
            return None
        file.seek(begin)
        start = frames.read_start(file.read(frames.START_BYTES))
    except ArchiveError:
        return None  # reading it through finds the reason
    if start is None or start.head is not None:
        return None
    table = _Table([start], [])
    at = begin + frames.START_BYTES
    for head in heads:
        table.blocks.append((head, at + len(head.raw), start.fingerprint))
        at += head.stored_size
    return table, begin
