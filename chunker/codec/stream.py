"""Compressing and decompressing bytes, at once or in pieces; joins models, blocks and container.

    Compressor:    data -> buffer -> blocks -> pool -> frames, in order -> trailer
    Decompressor:  data -> parser -> blocks -> pool -> content, in order

Whatever the size of the input, `Compressor` holds 16 MiB of it and up to two blocks for each worker,
`Decompressor` the latter. The archive depends on the model, the settings and the bytes alone: not on how they
are cut into calls, nor on `workers` or `executor`.
"""

from __future__ import annotations

import contextlib
import io
import threading
from collections.abc import Generator, Iterable, Iterator
from typing import TYPE_CHECKING, BinaryIO, NamedTuple
from zlib import crc32

from chunker.codec import archive, blocks, frames, presets
from chunker.codec.archive import Block, Parser
from chunker.codec.cluster import require_same
from chunker.codec.executor import Executor
from chunker.codec.finder import ModelFinder, Sent, builtin, model_for, model_of
from chunker.codec.frames import Bytes, damaged, flat
from chunker.codec.pool import Advance, Pool, ignore
from chunker.codec.presets import Preset
from chunker.core.backend import Progress, Settings, Stop
from chunker.errors import UsageError
from chunker.forking import Birthplace

if TYPE_CHECKING:
    from chunker.codec.finder import ModelLike


class Frame(NamedTuple):
    """A block as it stands in a full archive, and what the trailer repeats of it."""

    kind: frames.Kind
    head: bytes
    stored: bytes


class Uncoded(NamedTuple):
    """A block to encode."""

    content: bytes
    settings: Settings
    model: Sent | None


def encode(job: Uncoded, stop: Stop, progress: Progress) -> Frame:
    """The block as it stands in a full archive, for a Pool."""
    content, settings, model = job
    coded = blocks.encode_block(content, settings, model_of(model), stop, progress)
    head = frames.make_head(coded, len(content))
    progress.value = len(content)
    return Frame(coded.kind, head.raw, frames.block_frame(head, coded.payload, content))


def encode_compact(job: Uncoded, stop: Stop, progress: Progress) -> bytes:
    """A whole archive of the one block, for a Pool."""
    content, settings, model = job
    coded = blocks.encode_block(content, settings, model_of(model), stop, progress, compact=True)
    progress.value = len(content)
    fingerprint = frames.NO_FINGERPRINT if model is None else model.model.fingerprint
    return frames.compact_archive(coded, content, fingerprint)


class Compressor:
    """Compresses data that arrives in pieces, like lzma.LZMACompressor.

    >>> compressor = Compressor()  # doctest: +SKIP
    >>> archive = compressor.compress(b"first") + compressor.compress(b"second") + compressor.flush()

    preset, model, workers, executor: see `compress`. Several threads may share a Compressor; its calls then
    take turns.
    advance: called with how many more bytes of content are coded, and where these begin, again and again.
    model_name: of the model that what was handed out needs, None if it needs none. made: in which process; a
    child that forks off cannot go on with it.

    Raises
    ------
    ModelNotFound, NotAModel, ModelVersionError, UsageError, ExecutorError.
    """

    def __init__(
        self,
        preset: Preset = presets.DEFAULT_PRESET,
        *,
        model: ModelLike = None,
        workers: int | None = None,
        advance: Advance = ignore,
        executor: Executor | None = None,
    ) -> None:
        self._settings = presets.settings_of(preset)
        self._model = model_for(model, preset)
        self._sent = None if self._model is None else Sent(self._model)
        self.made = Birthplace()
        self._frames = Pool(encode, workers, advance, executor, size=lambda job: len(job.content))
        self._compact = Pool(encode_compact, 1, advance, executor)
        require_same(executor, self._sent)
        self._lock = threading.Lock()
        self._buffer = bytearray()
        self._heads = bytearray()
        self._crc = 0
        self._started = False
        self._closed = False
        self.model_name: str | None = None

    @property
    def _fingerprint(self) -> bytes:
        return frames.NO_FINGERPRINT if self._model is None else self._model.fingerprint

    def compress(self, data: Bytes) -> bytes:
        """Take in data; the part of the archive that is complete, often b"".
        Raises UsageError after `flush`."""
        view = flat(data)
        out: list[bytes] = []
        self.made.require()
        with self._lock, self._closed_by_errors():
            self._require_open()
            for begin in range(0, len(view), presets.BLOCK_BYTES):
                self._buffer += view[begin : begin + presets.BLOCK_BYTES]
                while len(self._buffer) >= presets.STREAM_BYTES:
                    for _ in range(2):
                        self._put(presets.BLOCK_BYTES, out)
        return b"".join(out)

    def flush(self) -> bytes:
        """The rest of the archive; the compressor is used up then. Raises UsageError on a second call."""
        out: list[bytes] = []
        self.made.require()
        with self._lock, contextlib.closing(self):
            self._require_open()
            if not self._started and len(self._buffer) < presets.SMALL_BYTES:
                [compact] = self._compact.imap([self._uncoded(bytes(self._buffer))])
                self._note(frames.compact_kind(compact))
                return compact
            for n_bytes in presets.last(len(self._buffer)):
                self._put(n_bytes, out)
            for frame in self._frames.drain():
                self._append(frame, out)
            out.append(frames.trailer(bytes(self._heads), self._crc))
        return b"".join(out)

    def close(self) -> None:
        """Stop the threads and give up what is not flushed; not needed after `flush` or an exception."""
        self._closed = True
        self._frames.close()
        self._compact.close()
        self._buffer.clear()

    @contextlib.contextmanager
    def _closed_by_errors(self) -> Iterator[None]:
        try:
            yield
        except BaseException:
            self.close()
            raise

    def _require_open(self) -> None:
        if self._closed:
            raise UsageError("this Compressor was flushed, closed or interrupted: use a new one")

    def _put(self, n_bytes: int, out: list[bytes]) -> None:
        """Let the content that comes next be coded as one block."""
        if not self._started:
            self._started = True
            out.append(frames.full_start(self._fingerprint))
        with memoryview(self._buffer) as view:
            content = bytes(view[:n_bytes])
        del self._buffer[:n_bytes]
        self._crc = crc32(content, self._crc)
        for frame in self._frames.put(self._uncoded(content)):
            self._append(frame, out)

    def _note(self, kind: frames.Kind) -> None:
        if self._model is not None and kind.needs_model:
            self.model_name = self._model.name

    def _append(self, frame: Frame, out: list[bytes]) -> None:
        self._note(frame.kind)
        self._heads += frame.head
        out.append(frame.stored)

    def _uncoded(self, content: bytes) -> Uncoded:
        return Uncoded(content, self._settings, self._sent)


class Job(NamedTuple):
    """A block to decode."""

    block: Block
    model: Sent | None


class End(NamedTuple):
    """The end of an archive; the CRC of its whole content, None of a compact one."""

    content_crc: int | None


def decode(job: Job, stop: Stop, progress: Progress) -> bytes:
    """The content of a block, for a Pool."""
    return blocks.decode_block(job.block, model_of(job.model), stop, progress)


def decode_or_pass(job: Job | End, stop: Stop, progress: Progress) -> bytes | End:
    """Ends pass through, so that they come in their turn."""
    return job if isinstance(job, End) else decode(job, stop, progress)


def _content_bytes(job: Job | End) -> int:
    return 0 if isinstance(job, End) else job.block.head.size


class BlockDecoder:
    """The engine of everything that reads from the start: bytes in, contents of blocks out, in order.

    eof: whether the end of an archive was reached and everything handed out and checked.
    """

    def __init__(
        self,
        model: ModelLike | ModelFinder,
        workers: int | None,
        advance: Advance = ignore,
        executor: Executor | None = None,
    ) -> None:
        self.parser = Parser()
        self.eof = False
        self._models = model if isinstance(model, ModelFinder) else ModelFinder(model)
        self._pool = Pool(decode_or_pass, workers, advance, executor, size=_content_bytes)
        if executor is not None:  # which of the built-in models are needed is known too late
            require_same(executor, self._models.given or Sent(builtin()))
        self._crc = 0

    @property
    def busy(self) -> bool:
        """Whether more content comes without more input."""
        return len(self._pool) > self.at_end

    @property
    def at_end(self) -> bool:
        """Whether all but the last check is done."""
        return self.parser.eof and len(self._pool) == 1

    def contents(self, jobs: Iterable[Job | End]) -> Generator[bytes, None, None]:
        """What `arrived` or `read_from` found, decoded and checked.
        Raises ArchiveError, after what was sound."""
        for result in self._pool.imap(jobs):
            if isinstance(result, bytes):
                self.eof = False
                self._crc = crc32(result, self._crc)
                yield result
                continue
            if result.content_crc not in (None, self._crc):
                raise damaged("the content fails its checksum")
            self._crc = 0
            self.eof = True

    def arrived(self) -> Iterator[Job | End]:
        """What is complete in the parser, up to the end of the archive."""
        ended_before = self.parser.eof
        while (block := self.parser.next_block()) is not None:
            yield Job(block, self._models.send(block))
        if self.parser.eof and not ended_before:
            yield End(self.parser.content_crc)

    def read_from(self, file: BinaryIO) -> Iterator[Job | End]:
        """What is in a file of one or several archives, from here to its end;
        where it is cut, what there is."""
        while True:
            yield from self.arrived()
            if self.parser.eof:
                self.parser.restart()
                continue
            data = file.read(archive.READ_BYTES)
            if data:
                self.parser.feed(data)
                continue
            if self.parser.may_end:
                return
            cut = self.parser.cut_block()
            if cut is not None:
                yield Job(cut, self._models.send(cut))
            raise self.parser.cut_off()

    def close(self) -> None:
        """Stop the threads."""
        self._pool.close()


class Decompressor:
    """Decompresses one archive that arrives in pieces, like lzma.LZMADecompressor.

    eof: the whole archive was decoded and checked. unused_data: what came after it, such as another archive.
    needs_input: False while `decompress(b"")` would give more. made: as of Compressor.
    model, workers, executor: see `decompress`. Several threads may share a Decompressor; its calls then take
    turns.
    An input that ends early is not an error here, for more could follow: look at `eof`.
    """

    def __init__(
        self, *, model: ModelLike = None, workers: int | None = None, executor: Executor | None = None
    ) -> None:
        self.made = Birthplace()
        self._decoder = BlockDecoder(model, workers, executor=executor)
        self._lock = threading.Lock()
        self._contents: Generator[bytes, None, None] | None = None  # under way
        self._ready = bytearray()
        self._closed = False

    @property
    def eof(self) -> bool:
        """Whether the end of the archive was reached and everything handed out."""
        return self._decoder.eof and not self._ready

    @property
    def needs_input(self) -> bool:
        """Whether more input is needed for more output."""
        return not (self._ready or self._decoder.busy or self._decoder.eof)

    @property
    def unused_data(self) -> bytes:
        """What was fed beyond the end of the archive; b"" before `eof`."""
        return bytes(self._decoder.parser.buffer) if self.eof else b""

    def decompress(self, data: Bytes, max_length: int = -1) -> bytes:
        """Take in data; the content that is complete, at most `max_length` bytes of it unless negative.

        Raises EOFError after `eof`, UsageError after an error, and NotAnArchive, CorruptArchive,
        ArchiveVersionError, WrongModel.
        """
        view = flat(data)
        self.made.require()
        with self._lock:
            if self.eof:
                raise EOFError("the archive has ended: use a new Decompressor for what follows")
            if self._closed:
                raise UsageError("this Decompressor was closed, interrupted or met an error: use a new one")
            try:
                self._decoder.parser.feed(view)
                self._fill(max_length)
            except BaseException:
                self.close()
                raise
            if self._decoder.eof:
                self._decoder.close()
            wanted = len(self._ready) if max_length < 0 else max_length
            out = bytes(self._ready[:wanted])
            del self._ready[:wanted]
            return out

    def _fill(self, max_length: int) -> None:
        """Decode until enough is ready, or all that was fed."""
        fed = self._contents is not None  # what is under way knows nothing of the latest data
        while max_length < 0 or len(self._ready) < max_length or not self._ready:
            if self._contents is None:
                self._contents = self._decoder.contents(self._decoder.arrived())
            content = next(self._contents, None)
            if content is not None:
                self._ready += content
                continue
            self._contents = None
            if not fed:
                return
            fed = False
        if self._contents is not None and self._decoder.at_end:
            next(self._contents, None)

    def close(self) -> None:
        """Stop the threads; not needed after `eof` or an exception."""
        self._closed = True
        self._decoder.close()


def contents(
    file: BinaryIO,
    model: ModelLike | ModelFinder = None,
    workers: int | None = None,
    executor: Executor | None = None,
) -> Generator[bytes, None, None]:
    """The contents of all blocks of a file of one or several archives, read once from here to its end.

    Closing the generator stops the threads. Raises ArchiveError: also TruncatedArchive at an early end.
    """
    with contextlib.closing(BlockDecoder(model, workers, executor=executor)) as decoder:
        yield from decoder.contents(decoder.read_from(file))


def compress(
    data: Bytes,
    preset: Preset = presets.DEFAULT_PRESET,
    *,
    model: ModelLike = None,
    workers: int | None = None,
    executor: Executor | None = None,
) -> bytes:
    """An archive of `data`.

    preset: "fast" (few contexts, and a small net where they are unsure), "default" (many contexts and a large
    net), "best" (all contexts, the large net at every byte); a level from 1 to 9, as in gzip and bz2 (1 to 3
    mean fast, 7 to 9 best); or Settings of one's own.
    model: the name of a built-in model; the path of a model file, which has a separator or a suffix; a Model;
    or a Stack. None for the built-in model of the preset.
    workers: how many blocks to code at a time, each in a thread; None or 0 for one per core. It never changes
    the result.
    executor: what codes the blocks instead of such threads: anything with `submit`, such as the pools of
    concurrent.futures and a distributed.Client. `workers` then is how many blocks it codes at a time; None:
    as many as it says. It never changes the result either.

    Raises
    ------
    ModelNotFound, NotAModel, ModelVersionError, UsageError. ExecutorError: the executor fails, or a worker of
    a cluster has another version or model.
    """
    compressor = Compressor(preset, model=model, workers=workers, executor=executor)
    return compressor.compress(data) + compressor.flush()


def decompress(
    data: Bytes,
    *,
    model: ModelLike = None,
    workers: int | None = None,
    executor: Executor | None = None,
) -> bytes:
    """The content of an archive, or of several in a row; zero bytes behind the last one are ignored.

    model: needed only if the archive was made with one that is not built in. workers, executor: as for
    `compress`.

    Raises
    ------
    NotAnArchive, TruncatedArchive, CorruptArchive, ArchiveVersionError, WrongModel, ExecutorError.
    """
    return b"".join(contents(io.BytesIO(flat(data)), model, workers, executor))
