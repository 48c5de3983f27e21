"""Reading the container: an incremental parser, and the table of blocks of a whole file.

Pure bytes: no core, no numpy, so that listing an archive costs nothing. `frames.py` holds the single parts.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import BinaryIO
from zlib import crc32

from chunker.codec import frames
from chunker.codec.frames import Bytes, Head, Start, damaged
from chunker.errors import ArchiveError, TruncatedArchive

READ_BYTES = 1 << 17
# A longer index is not loaded; the archive is then read from its start. It is enough for 20 TB.
MAX_INDEX_BYTES = 1 << 26


def seekable(file: BinaryIO) -> bool:
    """Whether a file says that it can seek; some have nothing but `read`."""
    return hasattr(file, "seekable") and file.seekable()


def cut_off(n_bytes: int) -> TruncatedArchive:
    """The error for an archive that ends too early, after `n_bytes`."""
    if n_bytes == 0:
        return TruncatedArchive("the input is empty, so it is no archive: check the name")
    return TruncatedArchive(f"the archive is cut off after {n_bytes} bytes: fetch or restore it again")


@dataclass(frozen=True)
class Block:
    """A block as it was read: its container is sound, its content is not yet known.

    crc: None if the archive is cut within the block, whose payload then is only a beginning.
    """

    head: Head
    payload: bytes
    crc: int | None
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
    the end stays in `buffer`; `restart` goes on with it as the next archive of a concatenation. Zero bytes
    behind the last archive are padding, as of tapes and `dd conv=sync`; padding_bytes: how many there are.
    """

    def __init__(self) -> None:
        self.buffer = bytearray()
        self.consumed_bytes = 0
        self.padding_bytes = 0
        self.archives = 0
        self.restart()

    def restart(self) -> None:
        """Begin the next archive. Bytes that are none raise CorruptArchive: they are trailing garbage."""
        self.start: Start | None = None
        self.eof = False
        self.content_crc: int | None = None
        self._heads = bytearray()

    @property
    def may_end(self) -> bool:
        """Whether the input may end here: behind an archive, or in the padding."""
        return self.eof or (self.archives > 0 and self.start is None and not self.buffer)

    def feed(self, data: Bytes) -> None:
        """Take over more bytes."""
        self.buffer += data

    def next_block(self) -> Block | None:
        """The next complete block. Raises NotAnArchive, ArchiveVersionError, CorruptArchive."""
        if self.archives and self.start is None:
            self._skip_padding()
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
        head = self._next_head(self.start)
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

    def cut_block(self) -> Block | None:
        """Where the input ends within a block: what there is of it. None if not even its head is complete."""
        head = None if self.start is None or self.eof else self._next_head(self.start)
        if self.start is None or head is None:
            return None
        payload = bytes(self.buffer[len(head.raw) : len(head.raw) + head.payload_size])
        return Block(head, payload, None, self.start.fingerprint)

    def cut_off(self) -> TruncatedArchive:
        """The error to raise where the input ends and may not (`may_end`)."""
        return cut_off(self.consumed_bytes + len(self.buffer))

    def _next_head(self, start: Start) -> Head | None:
        """The head of the block that begins here; None if it is not complete, or the blocks have ended."""
        if start.head is not None or self.buffer[:1] == bytes([frames.END_OF_BLOCKS]):
            return start.head
        return frames.read_head(self.buffer)

    def _skip_padding(self) -> None:
        zeros = len(self.buffer) - len(self.buffer.lstrip(b"\0"))
        self.padding_bytes += zeros
        self._take(zeros)

    def _read_start(self) -> None:
        if self.archives and (
            self.padding_bytes or not frames.MAGIC.startswith(self.buffer[: len(frames.MAGIC)])
        ):
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


@dataclass
class Table:
    """What stands in a file of one or several archives, without the payloads.

    blocks: (head, where its payload lies in the file, fingerprint of the archive's model), in order.
    complete: whether the last archive is; else the last block may be cut. stored_size: bytes of the file.
    padding_bytes: zero bytes behind the last archive.
    """

    starts: list[Start]
    blocks: list[tuple[Head, int, bytes]]
    stored_size: int = 0
    padding_bytes: int = 0
    complete: bool = True

    def entries(self) -> list[Entry]:
        """The blocks, with where their content begins."""
        found, content_at = [], 0
        for head, payload_at, fingerprint in self.blocks:
            found.append(Entry(head, content_at, payload_at, fingerprint))
            content_at += head.size
        return found


def read_entries(file: BinaryIO) -> list[Entry]:
    """All blocks of a seekable file, from its index where it has one. Raises ArchiveError."""
    table = read_table(file)
    if not table.complete:
        raise cut_off(table.stored_size)
    return table.entries()


def read_table(file: BinaryIO) -> Table:
    """The table of a file, which need not be seekable: by the indexes from the end back,
    else by reading it through.

    Raises
    ------
    NotAnArchive, CorruptArchive, ArchiveVersionError. TruncatedArchive: not even the start of an archive is
    there.
    """
    if not seekable(file):
        return _walk(file, None)
    end = stored_size = file.seek(0, io.SEEK_END)
    later: list[Table] = []
    while end > 0:
        found = _read_last(file, end)
        if found is None:
            break
        table, end = found
        later.append(table)
    if end > 0 or not later:
        file.seek(0)
        later.append(_walk(file, end))
    parts = later[::-1]
    return Table(
        [start for part in parts for start in part.starts],
        [block for part in parts for block in part.blocks],
        stored_size,
        parts[-1].padding_bytes,
        parts[-1].complete,
    )


def _walk(file: BinaryIO, end: int | None) -> Table:
    """The table of the archives up to `end` (None: the end of the file), by reading all of them."""
    parser = Parser()
    table = Table([], [])
    while True:
        while (block := parser.next_block()) is not None:
            payload_at = parser.consumed_bytes - frames.CRC_BYTES - len(block.payload)
            table.blocks.append((block.head, payload_at, block.fingerprint))
        if parser.eof:
            table.starts += [parser.start] if parser.start is not None else []
            parser.restart()
            continue
        seen = parser.consumed_bytes + len(parser.buffer)
        data = file.read(READ_BYTES if end is None else min(READ_BYTES, end - seen))
        if data:
            parser.feed(data)
            continue
        table.stored_size, table.padding_bytes, table.complete = seen, parser.padding_bytes, parser.may_end
        if not table.complete:
            if parser.start is None:
                raise parser.cut_off()
            table.starts.append(parser.start)
            cut = parser.cut_block()
            if cut is not None:
                payload_at = parser.consumed_bytes + len(cut.head.raw)
                table.blocks.append((cut.head, payload_at, cut.fingerprint))
        return table


def _read_last(file: BinaryIO, end: int) -> tuple[Table, int] | None:
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
    table = Table([start], [])
    at = begin + frames.START_BYTES
    for head in heads:
        table.blocks.append((head, at + len(head.raw), start.fingerprint))
        at += head.stored_size
    return table, begin
