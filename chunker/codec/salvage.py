"""What is intact in a damaged archive.

Every block carries a checksum over its head, payload and content, so whatever decodes is what was compressed.
The reader goes from block to block, and where one is damaged on to the next place at which an intact one
begins: bytes may be missing in between, or too many. Where the index at the end is sound, it tells which
blocks are missing and how long their contents were. Without it, an intact block is not found that stands
between a place where bytes are missing and a damaged head.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import accumulate
from zlib import crc32

from chunker.codec import archive, blocks, frames
from chunker.codec.archive import Block
from chunker.codec.finder import ModelFinder
from chunker.codec.frames import Bytes, Head
from chunker.codec.pool import Advance, ignore
from chunker.core.backend import Contexts, Progress, Stop
from chunker.errors import ArchiveError, CorruptArchive, NotAnArchive

_LONGEST_HEAD = 32  # bytes; more than any head or start takes
_NOT_PADDING = re.compile(rb"[^\0]")
_BEGINNINGS = re.compile(rb"[\x01-\x04]|" + re.escape(frames.MAGIC))


@dataclass(frozen=True)
class Piece:
    """A stretch of an archive, and what became of it.

    at, stored_size: where it lies in the archive; stored_size may be 0. size: bytes of its content, None if
    nobody knows. content: b"" if it is lost; else that, or the beginning that a cut left. head: the block's.
    checked: whether the content passed its checksum, which is cut off, too, where the end is missing.
    """

    at: int
    stored_size: int
    size: int | None
    content: bytes = b""
    head: Head | None = None
    checked: bool = True

    @property
    def lost(self) -> int | None:
        """How many bytes of content are missing; None if nobody knows."""
        return None if self.size is None else self.size - len(self.content)


def salvage(data: Bytes, models: ModelFinder, advance: Advance = ignore) -> Iterator[Piece]:
    """Everything of a damaged archive, or of several in a row, in order: what is intact and what is lost.

    advance: called with how many more bytes of content were found, and where in the result these begin.

    Raises
    ------
    NotAnArchive: nothing in it is a block. WrongModel: the archive was made with another model.
    """
    found, at = False, 0
    for piece in _Salvage(data, models).pieces():
        found = found or bool(piece.content) or piece.size == 0
        advance(len(piece.content), at)
        at += len(piece.content)
        yield piece
    if not found:
        raise NotAnArchive("holds no intact block of an archive: check the name")


class _Salvage:
    def __init__(self, data: Bytes, models: ModelFinder) -> None:
        self._data, self._models = frames.flat(data), models
        self._fingerprint = b""  # of the archive that is read; b"" before one was found
        self._named: set[bytes] = set()  # heads in its index
        self._settings: set[tuple[Contexts, int]] = set()  # contexts and gate of blocks that are certain
        self._last: tuple[int, bytes | None] = (-1, None)  # what was decoded last, and where

    def pieces(self) -> Iterator[Piece]:
        at = 0
        for heads, begin, end in self._indexes():
            yield from self._with_index(heads, at, begin)
            at, self._named = end, set()
        yield from self._without_index(at, len(self._data))

    def _indexes(self) -> Iterator[tuple[list[Head], int, int]]:
        """The heads of each archive whose index is sound, where it begins if it is whole, where it ends."""
        for match in re.finditer(re.escape(frames.END_MAGIC), self._data):
            end = match.end()
            footer = bytes(self._data[max(end - frames.FOOTER_BYTES, 0) : end])
            size = int.from_bytes(footer[:8], "little")
            at = end - frames.FOOTER_BYTES - size
            if not 1 + frames.CRC_BYTES <= size <= archive.MAX_INDEX_BYTES or at < 0:
                continue
            index = bytes(self._data[at : at + size])
            if crc32(footer[:8], crc32(index)).to_bytes(frames.CRC_BYTES, "little") != footer[8:-3]:
                continue
            heads = list(frames.read_heads(index[1 : -frames.CRC_BYTES]))
            yield heads, at - sum(head.stored_size for head in heads) - frames.START_BYTES, end

    # ---- with the index ------------------------------------------------------------------------------

    def _with_index(self, heads: list[Head], at: int, begin: int) -> Iterator[Piece]:
        """What is found from `at` on, and in its places those blocks that the index names and that are not.

        begin: where the archive begins if no byte of it is missing; what is before that may be another one.
        """
        ends = [*accumulate((head.stored_size for head in heads), initial=begin + frames.START_BYTES)]
        next_, after, self._named = 0, begin + frames.START_BYTES, {head.raw for head in heads}
        for piece in self._without_index(at, ends[-1]):
            intact = piece.head is not None and piece.lost == 0
            same = [k for k in range(next_, len(heads)) if intact and heads[k] == piece.head]
            if not same:
                if next_ == 0 and piece.at + piece.stored_size <= begin:
                    yield piece
                continue
            # Heads may be alike: where it lies tells which one it is, unless bytes are missing before it.
            number = next((k for k in same if ends[k] == piece.at), same[0])
            yield from (Piece(after, 0, head.size) for head in heads[next_:number])
            yield piece
            next_, after = number + 1, piece.at + piece.stored_size
        yield from (Piece(after, 0, head.size) for head in heads[next_:])

    # ---- without -------------------------------------------------------------------------------------

    def _without_index(self, at: int, end: int) -> Iterator[Piece]:
        while at < end:
            if self._read_start(at):
                at += frames.START_BYTES
                continue
            head = self._head(at)
            content = None if head is None else self._decoded(head, at)
            if head is not None and content is not None:
                yield Piece(at, head.stored_size, head.size, content, head)
                at += head.stored_size
                continue
            if not _NOT_PADDING.search(self._data, at, end):
                return
            damaged, after = self._damaged(at, end)
            yield from damaged
            if not damaged:
                after = self._next(at + 1, end)
                if head is not None and after == end < at + head.stored_size:
                    yield self._cut(head, at, end)
                elif self._data[at] != frames.END_OF_BLOCKS:  # else a trailer, of which nothing is content
                    yield Piece(at, after - at, None)
            at = after

    def _damaged(self, at: int, end: int) -> tuple[list[Piece], int]:
        """The damaged blocks from here to an intact one, to the trailer or to the end, and where that is.

        None if their heads do not lead there: then a head is damaged, too, or bytes are missing.
        """
        found: list[Piece] = []
        while at < end:
            head = self._head(at)
            if found and head is not None and self._decoded(head, at) is not None:
                return found, at
            if head is None:
                return (found, at) if found and self._ends(at) else ([], at)
            found.append(Piece(at, head.stored_size, head.size))
            at += head.stored_size
        return (found, at) if at == end else ([], at)

    def _next(self, at: int, end: int) -> int:
        """Where the next archive, intact block or trailer begins, or the end."""
        for match in _BEGINNINGS.finditer(self._data, at, end):
            place = match.start()
            if self._read_start(place):
                return place
            head = self._head(place)
            if head is None:
                continue
            after = place + head.stored_size
            # Many bytes look like a head, and decoding may take a minute: more heads have to follow, or the
            # end, unless the index names this one.
            usual = head.settings is None or (head.settings.contexts, head.settings.gate) in self._settings
            likely = head.raw in self._named or self._leads_on(after, end, 2 if usual else 4)
            if likely and self._decoded(head, place) is not None:
                return place
        return end

    def _leads_on(self, at: int, end: int, heads: int) -> bool:
        """Whether so many heads follow from here on, or fewer and then the trailer or the end."""
        for _ in range(heads):
            head = None if at >= end else self._head(at)
            if head is None:
                return at == end or self._ends(at)
            at += head.stored_size
        return True

    def _ends(self, at: int) -> bool:
        """Whether a trailer may begin here."""
        return bytes(self._data[at : at + 1]) == b"\0" and self._head(at + 1) is not None

    def _cut(self, head: Head, at: int, end: int) -> Piece:
        payload = bytes(self._data[at + len(head.raw) : min(end, at + len(head.raw) + head.payload_size)])
        block = Block(head, payload, None, self._fingerprint)
        try:
            content = blocks.decode_block(block, self._models.find(block), Stop(), Progress())
        except CorruptArchive:
            content = b""
        return Piece(at, end - at, head.size, content, checked=False)

    # ---- parts ---------------------------------------------------------------------------------------

    def _read_start(self, at: int) -> bool:
        """Whether a full archive begins here; its model's fingerprint then counts from here on."""
        try:
            start = frames.read_start(self._data[at : at + _LONGEST_HEAD])
        except ArchiveError:
            return False
        if start is None or start.head is not None:
            return False
        self._fingerprint = start.fingerprint
        return True

    def _head(self, at: int) -> Head | None:
        """The head of a block, or of a compact archive, that begins here."""
        beginning = self._data[at : at + _LONGEST_HEAD]
        try:
            if bytes(beginning[: len(frames.MAGIC)]) != frames.MAGIC:
                return frames.read_head(beginning)
            start = frames.read_start(beginning)
        except ArchiveError:
            return None
        return None if start is None else start.head

    def _decoded(self, head: Head, at: int) -> bytes | None:
        """The content of a block that begins here; None if it is not intact. Raises WrongModel."""
        if self._last[0] != at:
            self._last = at, self._decode(head, at)
            if self._last[1] is not None and head.settings is not None:
                self._settings.add((head.settings.contexts, head.settings.gate))
        return self._last[1]

    def _decode(self, head: Head, at: int) -> bytes | None:
        stored = bytes(self._data[at : at + head.stored_size])
        if len(stored) < head.stored_size:
            return None
        end = len(head.raw) + head.payload_size
        fingerprint = self._fingerprint
        if head.raw.startswith(frames.MAGIC):
            begin = len(frames.MAGIC) + 1
            fingerprint = head.raw[begin : begin + frames.COMPACT_FINGERPRINT_BYTES]
        if head.kind.needs_model and fingerprint == frames.NO_FINGERPRINT:
            return None  # the archive has no such block
        crc = int.from_bytes(stored[end:], "little")
        unknown = head.kind.needs_model and not fingerprint  # the archive's beginning is missing
        for wanted in self._models.fingerprints() if unknown else [fingerprint]:
            block = Block(head, stored[len(head.raw) : end], crc, wanted)
            with contextlib.suppress(CorruptArchive):
                return blocks.decode_block(block, self._models.find(block), Stop(), Progress())
        return None
