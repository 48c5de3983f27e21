"""Records to bytes and back, each alone.

    record -- contexts or deflate --> payload -- + checksum --> encoded record

FORMAT.md, "An encoded record".
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol, TypeVar
from zlib import crc32

from chunker.codec.frames import read_varint, varint
from chunker.codec.pool import Pool
from chunker.core.backend import Progress, Session, Stop
from chunker.errors import CorruptArchive, UsageError, WrongModel
from chunker.records.model import ROOM, RecordModel, load_record_model

STORED, MEASURED = b"\xff", b"\xfe"  # first bytes that no payload of the core and none of deflate has
MAX_LENGTH = 1 << 24
MOST_LENGTH = (1 << 27) - 1
BATCH_RECORDS, BATCH_BYTES = 1024, 1 << 14  # of one task of a thread

ModelLike = RecordModel | str | bytes | os.PathLike[str]
Bytes = bytes | bytearray | memoryview
Item = TypeVar("Item", bound=Bytes)


def damaged(what: str) -> CorruptArchive:
    """The error of an encoded record that cannot be one."""
    return CorruptArchive(
        f"the encoded record is damaged, or of another model ({what}): fetch it again, or name its model"
    )


class RecordCodec:
    """Codes records one by one with a model of their domain; threads may share it.

    model: a model, or the path of its file. A file is read once; its sample, with the first record.
    check: 0, 1 or 2 bytes of checksum, over the record and the model's fingerprint; without, damage or
    another model gives other bytes or an error.
    max_length: bytes of the longest record; decoding never gives more, whatever it is given.
    workers: threads of `encode_many` and `decode_many`; None for one per core.

    An encoded record is at most 1 byte and the checksum longer than the record. It tells neither its length
    nor its model: whoever keeps it keeps these.

    Raises
    ------
    ModelNotFound, NotAModel, ModelVersionError. UsageError: another argument makes no sense.

        >>> import chunker
        >>> from chunker.records.training import train
        >>> model = train([b"GET /%d HTTP/1.1" % n for n in range(50)]).model
        >>> codec = chunker.RecordCodec(model, check=1)
        >>> encoded = codec.encode(b"GET /1234 HTTP/1.1")
        >>> len(encoded) < 9
        True
        >>> codec.decode(encoded)
        b'GET /1234 HTTP/1.1'
    """

    def __init__(
        self,
        model: ModelLike,
        *,
        check: int = 0,
        max_length: int = MAX_LENGTH,
        workers: int | None = None,
    ) -> None:
        if check not in (0, 1, 2):
            raise UsageError(f"check={check!r} is no size of a checksum: choose 0, 1 or 2 bytes")
        if not 0 <= max_length <= MOST_LENGTH:
            raise UsageError(f"max_length={max_length!r} is out of range: choose 0 to {MOST_LENGTH:,} bytes")
        if isinstance(model, bytes):
            model = os.fsdecode(model)
        self.model = model if isinstance(model, RecordModel) else load_record_model(model)
        self.check, self.max_length, self.workers = check, max_length, workers
        self._seed = crc32(self.model.fingerprint)
        self._way: _Way = _by_deflate if self.model.config.method == "deflate" else _by_contexts

    def __repr__(self) -> str:
        return f"RecordCodec({self.model!r}, check={self.check})"

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickles by path and fingerprint: the other process reads the same file. Raises UsageError."""
        if self.model.path is None:
            raise UsageError("a codec is pickled by its model's file: save the model first")
        path, fingerprint = str(self.model.path), self.model.fingerprint
        return _restored, (path, fingerprint, self.check, self.max_length, self.workers)

    def encode(self, record: Bytes) -> bytes:
        """The encoded record. Raises UsageError: it is longer than `max_length`."""
        with self._way(self.model) as way:
            return self._encode(way, record)

    def decode(self, encoded: Bytes) -> bytes:
        """The record.

        Raises
        ------
        CorruptArchive: it is damaged, longer than `max_length`, or was made with another model or `check`.
        """
        with self._way(self.model) as way:
            return self._decode(way, encoded)

    def encode_many(self, records: Iterable[Bytes]) -> list[bytes]:
        """All of them encoded, in order, on all cores."""
        return self._in_threads(self.encode_batch, records)

    def decode_many(self, encoded: Iterable[Bytes]) -> list[bytes]:
        """All of them decoded, in order, on all cores."""
        return self._in_threads(self.decode_batch, encoded)

    def encode_batch(self, records: Iterable[Bytes], stop: Stop | None = None) -> list[bytes]:
        """All of them encoded, in this thread. Raises Stopped soon after `stop` is set."""
        with self._way(self.model) as way:
            return [self._encode(way, each) for each in _until(stop, records)]

    def decode_batch(self, encoded: Iterable[Bytes], stop: Stop | None = None) -> list[bytes]:
        """The inverse of `encode_batch`."""
        with self._way(self.model) as way:
            return [self._decode(way, each) for each in _until(stop, encoded)]

    def _in_threads(
        self, code: Callable[[list[Bytes], Stop | None], list[bytes]], items: Iterable[Bytes]
    ) -> list[bytes]:
        def one(batch: list[Bytes], stop: Stop, progress: Progress) -> list[bytes]:
            return code(batch, stop)

        with contextlib.closing(Pool(one, self.workers)) as pool:
            return [each for batch in pool.imap(batches(items)) for each in batch]

    def _encode(self, way: _Coder, record: Bytes) -> bytes:
        record = bytes(record)
        if len(record) > self.max_length:
            raise UsageError(
                f"a record of {len(record):,} bytes is longer than max_length={self.max_length:,}: raise it"
            )
        payload = way.encode(record)
        if len(payload) > len(record):
            payload = STORED + record
        return payload + self._checksum(record)

    def _decode(self, way: _Coder, encoded: Bytes) -> bytes:
        data = bytes(encoded)
        payload, checksum = data[: len(data) - self.check], data[len(data) - self.check :]
        if not payload:
            raise damaged("it is too short")
        limit = self.max_length
        record = payload[1:] if payload[:1] == STORED else way.decode(payload, limit)
        if len(record) > limit:
            raise damaged(f"it is longer than max_length={limit:,}")
        if checksum != self._checksum(record):
            raise damaged("it fails its checksum")
        return record

    def _checksum(self, record: bytes) -> bytes:
        return crc32(record, self._seed).to_bytes(4, "little")[: self.check]


def _restored(path: str, fingerprint: bytes, check: int, max_length: int, workers: int | None) -> RecordCodec:
    """For pickle. Raises WrongModel: the file holds another model now."""
    codec = RecordCodec(Path(path), check=check, max_length=max_length, workers=workers)
    if codec.model.fingerprint != fingerprint:
        raise WrongModel(f"{path} holds another model than the codec was pickled with: put that one back")
    return codec


def batches(
    items: Iterable[Item], records: int = BATCH_RECORDS, size: int = BATCH_BYTES
) -> Iterator[list[Item]]:
    """The items in lists, each up to so many or until it has so many bytes."""
    batch: list[Item] = []
    n_bytes = 0
    for item in items:
        batch.append(item)
        n_bytes += len(item)
        if len(batch) == records or n_bytes >= size:
            yield batch
            batch, n_bytes = [], 0
    if batch:
        yield batch


def _until(stop: Stop | None, items: Iterable[Bytes]) -> Iterator[Bytes]:
    for item in items:
        if stop is not None:
            stop.check()
        yield item


class _Coder(Protocol):
    def encode(self, record: bytes) -> bytes: ...

    def decode(self, payload: bytes, limit: int) -> bytes: ...


class _Way(Protocol):
    def __call__(self, model: RecordModel) -> contextlib.AbstractContextManager[_Coder]: ...


@contextlib.contextmanager
def _by_deflate(model: RecordModel) -> Iterator[_Coder]:
    yield model.deflate


@contextlib.contextmanager
def _by_contexts(model: RecordModel) -> Iterator[_Coder]:
    with model.session() as session:
        yield _Contexts(model, session)


class _Contexts:
    """Codes with a session that has read the sample."""

    def __init__(self, model: RecordModel, session: Session) -> None:
        self._model, self._session = model, session
        self._terminator, self._end = model.config.terminator, model.config.end

    def _is_long(self, length: int) -> bool:
        """Whether there is no room for it in the session."""
        return length > ROOM - len(self._terminator)

    def encode(self, record: bytes) -> bytes:
        """The payload, or a measured one."""
        if self._is_long(len(record)):
            return MEASURED + varint(len(record)) + self._model.deflate.encode(record)
        if self._end in record:
            return MEASURED + varint(len(record)) + self._session.encode(record)
        return self._session.encode(record + self._terminator)

    def decode(self, payload: bytes, limit: int) -> bytes:
        """The record. Raises CorruptArchive."""
        if payload[:1] == MEASURED:
            return self._measured(payload, limit)
        most = min(limit + len(self._terminator), ROOM)
        record = self._session.decode(payload, end=self._end, limit=most)
        if not record.endswith(self._terminator):
            raise damaged("its end is not one")
        return record.removesuffix(self._terminator)

    def _measured(self, payload: bytes, limit: int) -> bytes:
        try:
            length, at = read_varint(payload, 1)
        except IndexError:
            raise damaged("it is too short") from None
        if length > limit:
            raise damaged(f"it is longer than max_length={limit:,}")
        if self._is_long(length):
            record = self._model.deflate.decode(payload[at:], length)
        else:
            record = self._session.decode(payload[at:], end=None, limit=length)
        if len(record) != length or not (self._is_long(length) or self._end in record):
            raise damaged("its length is not the one that it claims")
        return record
