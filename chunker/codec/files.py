"""`open`: archives as Python file objects, like gzip.open.

Reading starts as a stream, which checks everything. The first `seek` beyond the current block looks up the
index and goes on block by block; each block is still checked, the archive as a whole no longer is.
"""

from __future__ import annotations

import bisect
import builtins
import io
import os
import threading
from collections.abc import Generator, Iterator
from types import TracebackType
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast, overload

from chunker.codec import archive, presets, stream, urls
from chunker.codec.executor import Executor, require_executor, worker_count
from chunker.codec.finder import ModelFinder, as_model, model_for
from chunker.codec.frames import flat
from chunker.codec.pool import Pool
from chunker.codec.presets import Preset
from chunker.codec.stream import Compressor
from chunker.errors import UsageError
from chunker.forking import Birthplace

if TYPE_CHECKING:
    from chunker.codec.finder import ModelLike

PathOrFile = str | bytes | os.PathLike[str] | BinaryIO

_BUFFER_BYTES = 1 << 16


class _File(io.IOBase):
    """What a reader and a writer share: the file underneath, its name, and how it was opened."""

    def __init__(self, file: BinaryIO, mode: str, owned: bool) -> None:
        """owned: whether closing this closes the file underneath."""
        self._file, self._owned, self.mode = file, owned, mode
        self._made = Birthplace()

    @property
    def name(self) -> Any:
        """The name of the file underneath."""
        return getattr(self._file, "name", None)

    def fileno(self) -> int:
        """The descriptor of the file underneath, which holds the archive. Raises OSError if it has none."""
        return self._file.fileno()

    def _close_file(self) -> None:
        if not self.closed:
            try:
                if self._owned:
                    self._file.close()
            finally:
                super().close()


class ArchiveReader(_File, io.RawIOBase):
    """The content of an archive, unbuffered; `open` wraps it into a buffer."""

    def __init__(
        self,
        file: BinaryIO,
        model: ModelLike,
        workers: int | None,
        owned: bool,
        executor: Executor | None = None,
    ) -> None:
        super().__init__(file, "rb", owned)
        self._contents = stream.contents(file, model, workers, executor)
        self._workers, self._executor = workers, executor
        self._models = ModelFinder(model)
        # Positions in the index count from the file's beginning: a file that is handed over in its middle is
        # read as a stream.
        self._can_seek = archive.seekable(file) and file.tell() == 0
        self._entries: list[archive.Entry] | None = None
        self._block = b""
        self._block_at = 0
        self._at = 0

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
        self._made.require()  # two processes would share one position in the file
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
        self._made.require()
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
        pool = Pool(stream.decode, self._workers, executor=self._executor)
        try:
            for part in (entries[index : index + 1], entries[index + 1 :]):
                yield from pool.imap(self._jobs(part))
        finally:
            pool.close()

    def _jobs(self, entries: list[archive.Entry]) -> Iterator[stream.Job]:
        for entry in entries:
            block = entry.read(self._file)
            yield stream.Job(block, self._models.send(block))

    def close(self) -> None:
        """Stop the threads, and close the file if `open` opened it."""
        try:
            if self._made.here:
                self._contents.close()
        finally:
            self._close_file()


class ArchiveWriter(_File, io.BufferedIOBase):
    """Compresses what is written. Closing it completes the archive, leaving a `with` by an exception does
    not: what there is then ends without its index, and no reader takes it for the whole."""

    _compressor: Compressor | None = (
        None  # until it is there; an object that failed to become one is closed, too
    )

    def __init__(
        self,
        file: BinaryIO,
        mode: str,
        preset: Preset,
        model: ModelLike,
        workers: int | None,
        owned: bool,
        executor: Executor | None = None,
    ) -> None:
        super().__init__(file, mode, owned)
        self._at = 0
        self._lock = threading.Lock()
        self._compressor = Compressor(preset, model=model, workers=workers, executor=executor)

    def writable(self) -> bool:
        """True."""
        return True

    def tell(self) -> int:
        """How many bytes of content were written."""
        return self._at

    def write(self, data: Any) -> int:
        """Take in bytes; returns how many."""
        view = flat(data)
        self._made.require()
        with self._lock:
            if self._compressor is None:
                raise UsageError("the archive is closed: open it again to append")
            out = self._compressor.compress(view)
            if out:
                self._file.write(out)
                self.flush()  # what waits in a buffer would be written by a child that forks off, too
            self._at += len(view)
        return len(view)

    def flush(self) -> None:
        """Flush the file underneath; content waits for its block to be full."""
        if not self.closed and self._compressor is not None and hasattr(self._file, "flush"):
            self._file.flush()

    def close(self) -> None:
        """Complete the archive, and close the file if `open` opened it. A child that forks off completes
        nothing: the archive is its parent's."""
        compressor, self._compressor = self._compressor, None
        try:
            if compressor is not None and self._made.here:
                self._file.write(compressor.flush())
        finally:
            self._close_file()

    def abort(self) -> None:
        """Close without completing the archive."""
        compressor, self._compressor = self._compressor, None
        if compressor is not None:
            compressor.close()
        self._close_file()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.abort()
        else:
            self.close()


class BufferedArchiveReader(io.BufferedReader):
    """A buffer whose `seek` takes `whence` by name, as that of gzip.GzipFile does."""

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move to a position in the content. Raises io.UnsupportedOperation, UsageError, ArchiveError."""
        return super().seek(offset, whence)


class _Text(io.TextIOWrapper):
    """A text layer that knows its mode, and passes on to an ArchiveWriter how a `with` was left."""

    mode: str

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None and isinstance(self.buffer, ArchiveWriter):
            self.buffer.abort()
        else:
            self.close()


def _open_raw(path: str | bytes | os.PathLike[str], way: str) -> BinaryIO:
    if urls.is_url(path):
        return urls.open_url(str(path), way + "b")
    return cast(BinaryIO, builtins.open(path, way + "b"))


@overload
def open(
    file: PathOrFile,
    mode: Literal["r", "rb"] = "rb",
    preset: Preset = presets.DEFAULT_PRESET,
    *,
    model: ModelLike = None,
    workers: int | None = None,
    executor: Executor | None = None,
) -> BufferedArchiveReader: ...
@overload
def open(
    file: PathOrFile,
    mode: Literal["w", "wb", "x", "xb", "a", "ab"],
    preset: Preset = presets.DEFAULT_PRESET,
    *,
    model: ModelLike = None,
    workers: int | None = None,
    executor: Executor | None = None,
) -> ArchiveWriter: ...
@overload
def open(
    file: PathOrFile,
    mode: Literal["rt", "wt", "xt", "at"],
    preset: Preset = presets.DEFAULT_PRESET,
    *,
    model: ModelLike = None,
    workers: int | None = None,
    executor: Executor | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> io.TextIOWrapper: ...
@overload
def open(
    file: PathOrFile,
    mode: str,
    preset: Preset = presets.DEFAULT_PRESET,
    *,
    model: ModelLike = None,
    workers: int | None = None,
    executor: Executor | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> BufferedArchiveReader | ArchiveWriter | io.TextIOWrapper: ...


def open(
    file: PathOrFile,
    mode: str = "rb",
    preset: Preset = presets.DEFAULT_PRESET,
    *,
    model: ModelLike = None,
    workers: int | None = None,
    executor: Executor | None = None,
    encoding: str | None = None,
    errors: str | None = None,
    newline: str | None = None,
) -> BufferedArchiveReader | ArchiveWriter | io.TextIOWrapper:
    """Open an archive as a file object, like gzip.open.

    file: a path, a URL that fsspec knows (s3://bucket/name), or a binary file that has `read` or `write`,
    which is then left open by `close`.
    mode: r, w (replace), x (only if there is none) or a (append an archive), with b (default) or t for text.
    preset: when writing. preset, model, workers, executor: as for `compress` and `decompress`.
    encoding, errors, newline: for text, as in the built-in open.

    Raises
    ------
    UsageError, OSError, and while reading ArchiveError.
    """
    way, kind = mode[:1], mode[1:] or "b"
    if way not in tuple("rwxa") or kind not in ("b", "t"):
        raise UsageError(f"mode {mode!r} is unknown: use r, w, x or a, with b or t")
    if kind == "b" and (encoding, errors, newline) != (None, None, None):
        raise UsageError(f"encoding, errors and newline are for text: use mode {way + 't'!r}")
    # All that can be wrong is said before a file is touched.
    presets.settings_of(preset)
    worker_count(workers)
    require_executor(executor)
    if way != "r":
        model = model_for(model, preset)
    elif model is not None:
        model = as_model(model)
    owned = isinstance(file, (str, bytes, os.PathLike))
    if not owned and not hasattr(file, "read" if way == "r" else "write"):
        raise UsageError(f"{file!r} is neither a path nor a binary file: name the archive")
    raw = _open_raw(file, way) if isinstance(file, (str, bytes, os.PathLike)) else file
    try:
        opened: BufferedArchiveReader | ArchiveWriter
        if way == "r":
            opened = BufferedArchiveReader(ArchiveReader(raw, model, workers, owned, executor), _BUFFER_BYTES)
        else:
            opened = ArchiveWriter(raw, way + "b", preset, model, workers, owned, executor)
        if kind == "b":
            return opened
        text = _Text(cast(BinaryIO, opened), encoding, errors, newline)
        text.mode = mode
        return text
    except BaseException:
        if owned:
            raw.close()
        raise
