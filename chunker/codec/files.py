"""`open`: archives as Python file objects, like gzip.open.

Reading starts as a stream, which checks everything. The first `seek` beyond the current block looks up the
index and goes on block by block; each block is still checked, the archive as a whole no longer is.
"""

from __future__ import annotations

import bisect
import builtins
import io
import os
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast, overload

from chunker.codec import archive, presets, stream
from chunker.codec.finder import ModelFinder, as_model
from chunker.codec.pool import Pool
from chunker.codec.stream import Compressor
from chunker.core.backend import Settings
from chunker.errors import UsageError

if TYPE_CHECKING:
    from chunker.codec.finder import ModelLike

PathOrFile = str | os.PathLike[str] | BinaryIO

_BUFFER_BYTES = 1 << 16


class ArchiveReader(io.RawIOBase):
    """The content of an archive, unbuffered; `open` wraps it into an io.BufferedReader."""

    def __init__(self, file: BinaryIO, model: ModelLike, threads: int | None, owned: bool) -> None:
        self._file = file
        self._owned = owned
        self._threads = threads
        self._models = ModelFinder(model)
        # Positions in the index count from the file's beginning: a file that is handed over in its middle is
        # read as a stream.
        self._can_seek = file.seekable() and file.tell() == 0
        self._entries: list[archive.Entry] | None = None
        self._contents = stream.contents(file, model, threads)
        self._block = b""
        self._block_at = 0
        self._at = 0

    @property
    def name(self) -> Any:
        """The name of the file underneath."""
        return getattr(self._file, "name", None)

    def readable(self) -> bool:
        """True."""
        return True

    def seekable(self) -> bool:
        """Whether the file underneath is, and began with the archive."""
        return self._can_seek

    def tell(self) -> int:
        """The position in the content."""
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Read up to one block's rest; 0 at the end. Raises ArchiveError."""
        while self._at == self._block_at + len(self._block):
            try:
                content = next(self._contents)
            except StopIteration:
                return 0
            self._block_at += len(self._block)
            self._block = content
        view = memoryview(buffer).cast("B")
        begin = self._at - self._block_at
        piece = self._block[begin : begin + len(view)]
        view[: len(piece)] = piece
        self._at += len(piece)
        return len(piece)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position in the content. Raises io.UnsupportedOperation, UsageError, ArchiveError."""
        if not self._can_seek:
            raise io.UnsupportedOperation("the file underneath cannot seek")
        if whence not in (io.SEEK_SET, io.SEEK_CUR, io.SEEK_END):
            raise UsageError(f"whence {whence} is none of 0, 1, 2")
        target = offset
        if whence == io.SEEK_CUR:
            target += self._at
        elif whence == io.SEEK_END:
            last = self._table()[-1:]
            target += last[0].content_at + last[0].head.size if last else 0
        if target < 0:
            raise UsageError(f"position {target} is before the beginning")
        if not self._block_at <= target <= self._block_at + len(self._block):
            self._go_to(target)
        self._at = target
        return target

    def _table(self) -> list[archive.Entry]:
        if self._entries is None:
            # Looking it up moves the file, so the stream has to end here, too.
            self._contents.close()
            self._entries = archive.read_entries(self._file)
            self._contents = self._from(self._entry_at(self._block_at + len(self._block)))
        return self._entries

    def _entry_at(self, position: int) -> int:
        """The number of the entry that holds the position; their count if none does."""
        entries = self._entries or []
        found = bisect.bisect_right(entries, position, key=lambda entry: entry.content_at) - 1
        while 0 <= found < len(entries) and position >= entries[found].content_at + entries[found].head.size:
            found += 1
        return max(found, 0)

    def _go_to(self, target: int) -> None:
        """Make the block with that position the current one."""
        table = self._table()
        self._contents.close()
        index = self._entry_at(target)
        self._contents = self._from(index)
        self._block = next(self._contents, b"")
        self._block_at = table[index].content_at if index < len(table) else target

    def _from(self, index: int) -> Generator[bytes, None, None]:
        """The contents from that entry on: the first alone, for a seek often wants only that, then ahead."""
        entries = self._entries or []
        pool = Pool(stream.decode, self._threads)
        try:
            for part in (entries[index : index + 1], entries[index + 1 :]):
                yield from pool.imap(self._jobs(part))
        finally:
            pool.close()

    def _jobs(self, entries: list[archive.Entry]) -> Iterator[stream.Job]:
        for entry in entries:
            block = entry.read(self._file)
            yield stream.Job(block, self._models.find(block))

    def close(self) -> None:
        """Stop the threads, and close the file if `open` opened it."""
        if not self.closed:
            try:
                self._contents.close()
                if self._owned:
                    self._file.close()
            finally:
                super().close()


class ArchiveWriter(io.BufferedIOBase):
    """Compresses what is written. Closing it completes the archive, leaving a `with` by an exception does not:
    what there is then ends without its index, and no reader takes it for the whole."""

    def __init__(
        self,
        file: BinaryIO,
        model: ModelLike,
        threads: int | None,
        owned: bool,
        preset: str | Settings = presets.DEFAULT_PRESET,
    ) -> None:
        self._file = file
        self._owned = owned
        self._at = 0
        self._compressor: Compressor | None = None
        self._compressor = Compressor(model, threads=threads, preset=preset)

    @property
    def name(self) -> Any:
        """The name of the file underneath."""
        return getattr(self._file, "name", None)

    def writable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """How many bytes of content were written."""
        return self._at

    def write(self, data: Any) -> int:
        """Take in bytes; returns how many."""
        if self._compressor is None:
            raise UsageError("the archive is closed: open it again to append")
        n_bytes = memoryview(data).nbytes
        self._file.write(self._compressor.compress(data))
        self._at += n_bytes
        return n_bytes

    def flush(self) -> None:
        """Flush the file underneath; content waits for its block to be full."""
        if not self.closed and self._compressor is not None:
            self._file.flush()

    def close(self) -> None:
        """Complete the archive, and close the file if `open` opened it."""
        compressor, self._compressor = self._compressor, None
        try:
            if compressor is not None:
                self._file.write(compressor.flush())
        finally:
            self._close_file()

    def abort(self) -> None:
        """Close without completing the archive."""
        compressor, self._compressor = self._compressor, None
        if compressor is not None:
            compressor.close()
        self._close_file()

    def _close_file(self) -> None:
        if not self.closed:
            try:
                if self._owned:
                    self._file.close()
            finally:
                super().close()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.abort()
        else:
            self.close()


class _TextWriter(io.TextIOWrapper):
    """A text layer that passes on to ArchiveWriter how a `with` was left."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            cast(ArchiveWriter, self.buffer).abort()
        else:
            self.close()


def _open_raw(path: str | os.PathLike[str], mode: str) -> BinaryIO:
    return cast(BinaryIO, builtins.open(path, mode))


@overload
def open(
    file: PathOrFile,
    mode: Literal["r", "rb"] = "rb",
    model: ModelLike = None,
    *,
    threads: int | None = None,
    preset: str | Settings = presets.DEFAULT_PRESET,
) -> io.BufferedReader: ...
@overload
def open(
    file: PathOrFile,
    mode: Literal["w", "wb", "x", "xb", "a", "ab"],
    model: ModelLike = None,
    *,
    threads: int | None = None,
    preset: str | Settings = presets.DEFAULT_PRESET,
) -> ArchiveWriter: ...
@overload
def open(
    file: PathOrFile,
    mode: Literal["rt", "wt", "xt", "at"],
    model: ModelLike = None,
    *,
    threads: int | None = None,
    preset: str | Settings = presets.DEFAULT_PRESET,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> io.TextIOWrapper: ...
@overload
def open(
    file: PathOrFile,
    mode: str,
    model: ModelLike = None,
    *,
    threads: int | None = None,
    preset: str | Settings = presets.DEFAULT_PRESET,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> io.BufferedReader | ArchiveWriter | io.TextIOWrapper: ...


def open(
    file: PathOrFile,
    mode: str = "rb",
    model: ModelLike = None,
    *,
    threads: int | None = None,
    preset: str | Settings = presets.DEFAULT_PRESET,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> io.BufferedReader | ArchiveWriter | io.TextIOWrapper:
    """Open an archive as a file object, like gzip.open.

    file: a path, or a binary file, which is then left open by `close`.
    mode: r, w (replace), x (only if there is none) or a (append an archive), with b (default) or t for text.
    model: as for `compress` and `decompress`. threads: None or 0 for one per core. preset: when writing.
    encoding, errors, newline: for text, as in the built-in open.
    Raises UsageError, OSError, and while reading ArchiveError.
    """
    way, kind = mode[:1], mode[1:] or "b"
    if way not in tuple("rwxa") or kind not in ("b", "t"):
        raise UsageError(f"mode {mode!r} is unknown: use r, w, x or a, with b or t")
    text = kind == "t"
    if not text and (encoding, errors, newline) != (None, None, None):
        raise UsageError(f"encoding, errors and newline are for text: use mode {way + 't'!r}")
    presets.settings_of(preset)
    if way != "r" or model is not None:
        model = as_model(model)  # before a file is touched
    owned = isinstance(file, (str, os.PathLike))
    raw = _open_raw(file, way + "b") if isinstance(file, (str, os.PathLike)) else file
    try:
        if way == "r":
            reader: io.BufferedReader = io.BufferedReader(
                ArchiveReader(raw, model, threads, owned), _BUFFER_BYTES
            )
            return io.TextIOWrapper(reader, encoding, errors, newline) if text else reader
        writer = ArchiveWriter(raw, model, threads, owned, preset)
        if text:
            return _TextWriter(cast(BinaryIO, writer), encoding, errors, newline)
        return writer
    except BaseException:
        if owned:
            raw.close()
        raise
