"""A file of records, any of which can be read alone.

    header | block | block | .. | index | footer

FORMAT.md, "A file of records".
"""

from __future__ import annotations

import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import cached_property, lru_cache
from itertools import accumulate
from pathlib import Path
from threading import Lock
from typing import BinaryIO, TypeVar, overload
from zlib import crc32

from chunker.codec.frames import read_varint, varint
from chunker.codec.pool import Pool
from chunker.core.backend import Progress, Stop
from chunker.errors import ArchiveVersionError, ModelError, NotAnArchive, TruncatedArchive, WrongModel
from chunker.records.blocks import damaged, make_block, parse_block
from chunker.records.codec import RecordCodec, batches
from chunker.records.model import RecordModel, load_record_model

MAGIC = b"\xa7NR"
VERSION = 1
BLOCK_RECORDS = 4096
BLOCK_BYTES = 1 << 20  # a block of longer records ends earlier
MAX_BLOCK_BYTES = (1 << 28) - 1
MAX_NAME_BYTES = 255
MAX_HEADER_BYTES = 512
FOOTER_BYTES = 8 + 4 + len(MAGIC)
FINGERPRINT_BYTES = 8
MAX_CHECK_BYTES = 2
CACHED_BLOCKS = 8  # that a file keeps parsed, for whoever reads records one by one

T = TypeVar("T")


@dataclass(frozen=True)
class Header:
    """What a file says before its records.

    fingerprint: first bytes of the model's. name: of the model's file, without folders. check: bytes of
    checksum in each record. separator: what stood between two records.
    """

    fingerprint: bytes
    name: str
    check: int
    separator: bytes

    def to_bytes(self) -> bytes:
        """As it lies in the file."""
        name = os.fsencode(self.name)
        fields = bytes([VERSION]) + self.fingerprint + bytes([self.check])
        for text in (self.separator, name):
            fields += varint(len(text)) + text
        start = MAGIC + fields
        return start + crc32(start).to_bytes(4, "little")

    @classmethod
    def read(cls, data: bytes) -> tuple[Header, int]:
        """The header and its size, of the beginning of a file. Raises ArchiveError."""
        if not data.startswith(MAGIC):
            raise NotAnArchive("this is no file of records: `chunker records pack` makes them")
        try:
            if data[3] != VERSION:
                raise ArchiveVersionError(
                    f"the file has version {data[3]}, this chunker reads {VERSION}: upgrade chunker"
                )
            at = 4 + FINGERPRINT_BYTES
            check, texts = data[at], []
            at += 1
            for _ in range(2):
                size, at = read_varint(data, at)
                texts.append(data[at : at + size])
                at += size
            crc = data[at : at + 4]
            if len(crc) < 4:
                raise IndexError
        except IndexError:
            raise TruncatedArchive("the file of records ends early: fetch or restore it again") from None
        if crc32(data[:at]) != int.from_bytes(crc, "little") or check > MAX_CHECK_BYTES:
            raise damaged("its beginning fails its checksum")
        return cls(data[4 : 4 + FINGERPRINT_BYTES], os.fsdecode(texts[1]), check, texts[0]), at + 4


@dataclass(frozen=True)
class Written:
    """What `write` wrote. bytes_in: of the records alone, without separators."""

    records: int
    bytes_in: int
    bytes_out: int


def write(
    target: BinaryIO,
    records: Iterable[bytes],
    codec: RecordCodec,
    separator: bytes = b"\n",
    *,
    ended: Callable[[], bool] = lambda: True,
    advance: Callable[[int], None] = lambda n_bytes: None,
) -> Written:
    """Write records into an open file, encoding them on all cores as they come.

    separator: what stood between them. ended: whether one stood behind the last record, too; asked at the
    end. advance: called with how many more bytes are done.

    Raises
    ------
    UsageError: a record is longer than the codec's max_length. OSError.
    """
    fingerprint = codec.model.fingerprint[:FINGERPRINT_BYTES]
    name = "" if codec.model.path is None else codec.model.path.name
    header = Header(fingerprint, name, codec.check, separator).to_bytes()
    target.write(header)
    heads, crc = bytearray(), 0
    total = Written(0, 0, len(header))

    def one(batch: list[bytes], stop: Stop, progress: Progress) -> tuple[list[bytes], bytes]:
        return batch, make_block(codec.encode_batch(batch, stop))

    with closing(Pool(one, codec.workers)) as pool:
        for batch, block in pool.imap(batches(records, BLOCK_RECORDS, BLOCK_BYTES)):
            target.write(block)
            heads += varint(len(batch)) + varint(len(block))
            for record in batch:
                crc = crc32(separator, crc32(record, crc))
            size = sum(map(len, batch))
            total = Written(total.records + len(batch), total.bytes_in + size, total.bytes_out + len(block))
            advance(size + len(batch) * len(separator))
    index = bytes([ended()]) + bytes(heads) + crc.to_bytes(4, "little")
    sized = index + len(index).to_bytes(8, "little")
    target.write(sized + crc32(sized).to_bytes(4, "little") + MAGIC[::-1])
    return Written(total.records, total.bytes_in, total.bytes_out + len(index) + FOOTER_BYTES)


class RecordFile:
    """A file of records as a sequence: `file[7]` is a record, `file[2:5]` a list of them, and iterating
    decodes all on all cores. Threads may share it.

    model: a model or the path of its file; None: the file that the header names, beside this one or in the
    current folder. workers: threads; None for one per core.

    Raises
    ------
    NotAnArchive, TruncatedArchive, CorruptArchive, ArchiveVersionError. WrongModel: another one is needed.
    ModelNotFound, NotAModel, ModelVersionError. OSError.
    """

    def __init__(
        self,
        file: BinaryIO,
        model: RecordModel | str | os.PathLike[str] | None = None,
        *,
        folder: Path | None = None,
        workers: int | None = None,
    ) -> None:
        """file: open, and able to seek. folder: where it lies, to look for the model."""
        self._file, self._lock = file, Lock()  # a file has one position
        size = file.seek(0, os.SEEK_END)
        self.header, begin = Header.read(_at(file, 0, min(size, MAX_HEADER_BYTES)))
        self.ended, heads, self._crc = _read_index(file, size, begin)
        self._begins = [*accumulate((n_bytes for _, n_bytes in heads), initial=begin)]
        self._firsts = [*accumulate((count for count, _ in heads), initial=0)]
        self.size = size
        self._model, self._folder, self._workers = model, folder, workers
        self._block = lru_cache(CACHED_BLOCKS)(lambda number: parse_block(self._raw(number)))

    @cached_property
    def codec(self) -> RecordCodec:
        """The codec, with the model that the file needs."""
        model = _find_model(self.header, self._model, self._folder)
        return RecordCodec(
            model, check=self.header.check, max_length=MAX_BLOCK_BYTES >> 1, workers=self._workers
        )

    def __len__(self) -> int:
        return self._firsts[-1]

    @overload
    def __getitem__(self, number: int) -> bytes: ...

    @overload
    def __getitem__(self, number: slice) -> list[bytes]: ...

    def __getitem__(self, number: int | slice) -> bytes | list[bytes]:
        if isinstance(number, slice):
            return self.codec.decode_many(map(self._encoded, range(*number.indices(len(self)))))
        return self.codec.decode(self._encoded(range(len(self))[number]))

    def __iter__(self) -> Iterator[bytes]:
        for batch in self.each_block(lambda first, records: records):
            yield from batch

    def each_block(self, function: Callable[[int, list[bytes]], T]) -> Iterator[T]:
        """function(number of the first record, records) of each block, called in threads; its results in
        order.

        Raises CorruptArchive: also if the records together fail their checksum, in the end.
        """
        separator = self.header.separator

        def one(item: tuple[int, bytes], stop: Stop, progress: Progress) -> tuple[list[bytes], T]:
            first, raw = item
            records = self.codec.decode_batch(parse_block(raw), stop)
            return records, function(first, records)

        crc, counts = 0, zip(self._firsts, self._firsts[1:], strict=False)
        raws = ((first, self._raw(number)) for number, (first, _) in enumerate(counts))
        number = 0
        with closing(Pool(one, self._workers)) as pool:
            for records, result in pool.imap(raws):
                if len(records) != self._firsts[number + 1] - self._firsts[number]:
                    raise damaged("the index counts records that are not there")
                for record in records:
                    crc = crc32(separator, crc32(record, crc))
                number += 1
                yield result
        if crc != self._crc:
            raise damaged("the records fail their checksum")

    def _encoded(self, number: int) -> bytes:
        block = bisect_right(self._firsts, number) - 1
        encoded = self._block(block)
        if len(encoded) != self._firsts[block + 1] - self._firsts[block]:
            raise damaged("the index counts records that are not there")
        return encoded[number - self._firsts[block]]

    def _raw(self, number: int) -> bytes:
        begin, end = self._begins[number : number + 2]
        with self._lock:
            return _at(self._file, begin, end - begin)


def _at(file: BinaryIO, position: int, size: int) -> bytes:
    file.seek(position)
    data = file.read(size)
    if len(data) != size:
        raise TruncatedArchive("the file of records ends early: fetch or restore it again")
    return data


def _read_index(file: BinaryIO, size: int, begin: int) -> tuple[bool, list[tuple[int, int]], int]:
    """Whether a separator ends the last record, (records, bytes) of each block, and the content's CRC.
    Raises ArchiveError."""
    cut = TruncatedArchive(
        "the file of records is cut off, or something follows it: fetch or restore it again"
    )
    if size < begin + FOOTER_BYTES:
        raise cut
    footer = _at(file, size - FOOTER_BYTES, FOOTER_BYTES)
    index_bytes = int.from_bytes(footer[:8], "little")
    if footer[12:] != MAGIC[::-1] or not 5 <= index_bytes <= size - FOOTER_BYTES - begin:
        raise cut
    index = _at(file, size - FOOTER_BYTES - index_bytes, index_bytes)
    if crc32(footer[:8], crc32(index)) != int.from_bytes(footer[8:12], "little"):
        raise damaged("its index fails its checksum")
    heads, at, end = [], 1, index_bytes - 4
    try:
        while at < end:
            count, at = read_varint(index, at)
            n_bytes, at = read_varint(index, at)
            heads.append((count, n_bytes))
    except IndexError:
        at = 0
    there = begin + sum(n_bytes for _, n_bytes in heads) == size - FOOTER_BYTES - index_bytes
    if at != end or index[0] > 1 or not there or any(not 1 <= count <= BLOCK_RECORDS for count, _ in heads):
        raise damaged("its index does not fit its blocks")
    return bool(index[0]), heads, int.from_bytes(index[end:], "little")


def _find_model(
    header: Header, given: RecordModel | str | os.PathLike[str] | None, folder: Path | None
) -> RecordModel:
    """The model that was given, or the one that the header names. Raises WrongModel, ModelError."""
    wanted = header.fingerprint
    needed = (
        f"the records were packed with the model {wanted[:4].hex()} ({header.name or 'which had no file'})"
    )
    if given is not None:
        model = given if isinstance(given, RecordModel) else load_record_model(given)
        if not model.fingerprint.startswith(wanted):
            raise WrongModel(
                f"{needed}, not with the one given ({model.id.hex()}): name that one's file (-m MODEL)"
            )
        return model
    if header.name and os.path.basename(header.name) == header.name:
        for place in dict.fromkeys((folder or Path(), Path())):
            try:
                model = load_record_model(place / header.name)
            except (ModelError, OSError):
                continue
            if model.fingerprint.startswith(wanted):
                return model
    raise WrongModel(f"{needed}, which lies neither beside the file nor here: name its file (-m MODEL)")


@contextmanager
def open_records(
    path: str | os.PathLike[str],
    model: RecordModel | str | os.PathLike[str] | None = None,
    *,
    workers: int | None = None,
) -> Iterator[RecordFile]:
    """The file of records at a path, open as long as the block lasts; arguments and errors of RecordFile."""
    with open(path, "rb") as file:
        yield RecordFile(file, model, folder=Path(path).parent, workers=workers)
