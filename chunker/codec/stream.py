"""Compressing and decompressing bytes, at once or in pieces; joins model, blocks and container.

    Compressor:    data -> buffer -> stretch -> blocks -> pool -> frames, in order -> trailer
    Decompressor:  data -> parser -> blocks -> pool -> content, in order

Whatever the size of the input, the presets that learn hold one stretch of it, below 64 MiB, and what is made of
it; "fast" and `Decompressor` at most two blocks for each thread, and of long lzma blocks one. The output of
`Compressor` depends on the model and on the bytes alone: not on how they are cut into calls, nor on `threads`.
"""

from __future__ import annotations

import functools
import io
import os
from collections import deque
from collections.abc import Generator
from typing import BinaryIO
from zlib import crc32

from chunker.codec import archive, blocks, frames, stretch
from chunker.codec.archive import Block, Parser
from chunker.codec.blocks import Model
from chunker.codec.frames import Bytes, damaged
from chunker.codec.pool import Pool, Result
from chunker.codec.stretch import Advance, Frame
from chunker.errors import UsageError, WrongModel

ModelLike = Model | str | os.PathLike[str] | None
"""A model, its name or file, or None for the built-in one (compressing) or the archive's (decompressing)."""


@functools.lru_cache(maxsize=4)
def _builtin(name: str | None) -> Model:
    """A built-in model, loaded once: small records must not pay for it again."""
    from chunker.modelfile import load_model

    return load_model(name)


def as_model(model: ModelLike) -> Model:
    """The model itself. Raises ModelNotFound, NotAModel, ModelVersionError."""
    if model is None:
        return _builtin(None)
    if isinstance(model, (str, os.PathLike)):
        from chunker.modelfile import load_model

        return load_model(model)
    return model


class ModelFinder:
    """Finds the model that a block wants: the given one or a built-in one, whichever has the fingerprint.

    found: names of those that were found, in order.
    """

    def __init__(self, model: ModelLike = None) -> None:
        self._given = None if model is None else as_model(model)
        self.found: list[str] = []

    def find(self, block: Block) -> Model | None:
        """None if the block needs no model. Raises WrongModel."""
        if not block.head.kind.needs_model:
            return None
        model = self._find(block.fingerprint)
        name = getattr(model, "name", "model")
        if name not in self.found:
            self.found.append(name)
        return model

    def _find(self, wanted: bytes) -> Model:
        if self._given is not None and self._given.fingerprint.startswith(wanted):
            return self._given
        from chunker.modelfile import builtin_models

        for name in builtin_models():
            if _builtin(name).fingerprint.startswith(wanted):
                return _builtin(name)
        tried = "the model given" if self._given is not None else "a built-in model"
        raise WrongModel(
            f"the archive was made with model {wanted.hex()}, not with {tried}: name that model's file "
            "(-m MODEL), unless the archive is damaged there"
        )


class Compressor:
    """Compresses data that arrives in pieces, like lzma.LZMACompressor.

    >>> compressor = Compressor()  # doctest: +SKIP
    >>> archive = compressor.compress(b"first") + compressor.compress(b"second") + compressor.flush()

    model: a model, a built-in's name or a model file; None for the default built-in model.
    threads: how many blocks to code at a time; None or 0 for one per core.
    preset: "default" learns while it codes, "best" learns more, "fast" does not and hands out earlier: it waits
    for 1 MiB, the others for 64.
    advance: called with how many more bytes of content are coded, again and again.
    Raises ModelNotFound, NotAModel, ModelVersionError, UsageError.
    """

    def __init__(
        self,
        model: ModelLike = None,
        *,
        threads: int | None = None,
        preset: str = blocks.DEFAULT_PRESET,
        advance: Advance = stretch.ignore,
    ) -> None:
        self._preset = blocks.preset_of(preset)
        self._advance = advance
        self._pool = Pool(threads)
        self._model = as_model(model)
        self._buffer = bytearray()
        self._waiting: deque[tuple[int, Result[Frame]]] = deque()
        self._heads = bytearray()
        self._crc = 0
        self._started = False
        self._closed = False
        self.needs_model = False

    def compress(self, data: Bytes) -> bytes:
        """Take in data; the part of the archive that is complete, often b"". Raises UsageError after `flush`."""
        self._require_open()
        out: list[bytes] = []
        view = memoryview(data).cast("B")
        try:
            block_bytes = self._preset.block_bytes
            for begin in range(0, len(view), block_bytes):
                self._buffer += view[begin : begin + block_bytes]
                if plan := stretch.first_stretch(self._preset, len(self._buffer)):
                    self._encode_stretch(plan, out)
                elif not self._preset.stretch_bytes and len(self._buffer) >= 2 * block_bytes:
                    self._submit(block_bytes, out)
        except BaseException:
            self.close()
            raise
        return b"".join(out)

    def flush(self) -> bytes:
        """The rest of the archive; the compressor is used up then. Raises UsageError on a second call."""
        self._require_open()
        out: list[bytes] = []
        try:
            if not self._started and len(self._buffer) < blocks.SMALL_BYTES:
                content = bytes(self._buffer)
                compact = blocks.encode_compact(self._model, content, self._preset)
                self.needs_model = frames.compact_kind(compact).needs_model
                self._advance(len(content))
                return compact
            if self._preset.stretch_bytes:
                self._encode_stretch(self._preset.plan(len(self._buffer)), out)
            else:
                for n_bytes in self._preset.last(len(self._buffer)):
                    self._submit(n_bytes, out)
                while self._waiting:
                    self._collect(out)
            out.append(frames.trailer(bytes(self._heads), self._crc))
        finally:
            self.close()
        return b"".join(out)

    def close(self) -> None:
        """Stop the threads and give up what is not flushed; not needed after `flush` or an exception."""
        self._closed = True
        self._pool.close()
        self._waiting.clear()
        self._buffer.clear()

    def _require_open(self) -> None:
        if self._closed:
            raise UsageError("this Compressor was flushed, closed or interrupted: use a new one")

    def _take(self, n_bytes: int, out: list[bytes]) -> bytes:
        """The content that comes next."""
        if not self._started:
            self._started = True
            out.append(frames.full_start(self._model.fingerprint))
        with memoryview(self._buffer) as view:
            content = bytes(view[:n_bytes])
        del self._buffer[:n_bytes]
        self._crc = crc32(content, self._crc)
        return content

    def _encode_stretch(self, plan: list[int], out: list[bytes]) -> None:
        content = self._take(sum(plan), out)
        for frame in stretch.encode_stretch(
            self._model, content, plan, self._preset, self._pool, self._advance
        ):
            self._append(frame, out)

    def _submit(self, n_bytes: int, out: list[bytes]) -> None:
        if len(self._waiting) >= self._pool.depth:
            self._collect(out)
        content = self._take(n_bytes, out)
        coded = self._pool.submit(blocks.encode_frame, self._model, content, self._preset)
        self._waiting.append((n_bytes, coded))

    def _collect(self, out: list[bytes]) -> None:
        n_bytes, coded = self._waiting.popleft()
        self._append(coded.result(), out)
        self._advance(n_bytes)

    def _append(self, frame: Frame, out: list[bytes]) -> None:
        head, block = frame
        self.needs_model |= frames.Kind(head[0]).needs_model
        self._heads += head
        out.append(block)


def fits(head: frames.Head, sizes: list[int]) -> bool:
    """Whether a block may be decoded ahead while blocks of those sizes are: together they are no longer than the
    longest block, so that memory does not depend on the archive."""
    return not sizes or sum(sizes) + head.size <= frames.MAX_LZMA_BYTES


class BlockDecoder:
    """The engine of everything that reads from the start: bytes in, contents of blocks out, in order."""

    def __init__(self, model: ModelLike | ModelFinder, threads: int | None) -> None:
        self.parser = Parser()
        self.eof = False
        self._models = model if isinstance(model, ModelFinder) else ModelFinder(model)
        self._pool = Pool(threads)
        self._waiting: deque[tuple[int, Result[bytes]]] = deque()
        self._too_much: Block | None = None
        self._crc = 0

    @property
    def busy(self) -> bool:
        """Whether `next_content` has more without being fed."""
        return bool(self._waiting)

    def feed(self, data: bytes) -> bool:
        """Take in more of the archive; whether there are cores left that could work on still more of it."""
        self.parser.feed(data)
        self._fill()
        return not self.parser.eof and self._too_much is None and len(self._waiting) < self._pool.threads

    def next_content(self) -> bytes | None:
        """The next block's content; None at `eof` and where more input is needed. Raises ArchiveError."""
        self._fill()
        if not self._waiting:
            return None
        content = self._waiting.popleft()[1].result()
        self._crc = crc32(content, self._crc)
        self._fill()
        return content

    def restart(self) -> None:
        """Go on with the archive that follows."""
        self.parser.restart()
        self.eof = False
        self._crc = 0

    def close(self) -> None:
        """Stop the threads."""
        self._pool.close()
        self._waiting.clear()

    def _fill(self) -> None:
        while len(self._waiting) < self._pool.depth:
            block = self._too_much or self.parser.next_block()
            self._too_much = None
            if block is None:
                break
            if not fits(block.head, [size for size, _ in self._waiting]):
                self._too_much = block
                break
            content = self._pool.submit(blocks.decode_block, self._models.find(block), block)
            self._waiting.append((block.head.size, content))
        if self.parser.eof and not self._waiting and not self.eof:
            if self.parser.content_crc not in (None, self._crc):
                raise damaged("the content fails its checksum")
            self.eof = True


class Decompressor:
    """Decompresses one archive that arrives in pieces, like lzma.LZMADecompressor.

    eof: the whole archive was decoded and checked. unused_data: what came after it, such as another archive.
    needs_input: False while `decompress(b"")` would give more.
    model: a model, a built-in's name or a model file; None to find it among the built-in ones by fingerprint.
    An input that ends early is not an error here, for more could follow: look at `eof`.
    """

    def __init__(self, model: ModelLike = None, *, threads: int | None = None) -> None:
        self._decoder = BlockDecoder(model, threads)
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
        if self.eof:
            raise EOFError("the archive has ended: use a new Decompressor for what follows")
        if self._closed:
            raise UsageError("this Decompressor was closed, interrupted or met an error: use a new one")
        try:
            self._decoder.parser.feed(data)
            while max_length < 0 or len(self._ready) < max_length or not self._ready:
                content = self._decoder.next_content()
                if content is None:
                    break
                self._ready += content
        except BaseException:
            self.close()
            raise
        if self._decoder.eof:
            self._decoder.close()
        wanted = len(self._ready) if max_length < 0 else max_length
        out = bytes(self._ready[:wanted])
        del self._ready[:wanted]
        return out

    def close(self) -> None:
        """Stop the threads; not needed after `eof` or an exception."""
        self._closed = True
        self._decoder.close()


def contents(
    file: BinaryIO, model: ModelLike | ModelFinder = None, threads: int | None = None
) -> Generator[bytes, None, None]:
    """The contents of all blocks of a file of one or several archives, read once from here to its end.

    Closing the generator stops the threads. Raises ArchiveError: also TruncatedArchive at an early end.
    """
    decoder = BlockDecoder(model, threads)
    try:
        while True:
            content = decoder.next_content()
            if content is not None:
                yield content
                continue
            if decoder.eof and decoder.parser.buffer:
                decoder.restart()
                continue
            data = file.read(archive.READ_BYTES)
            if not data:
                if decoder.eof:
                    return
                raise decoder.parser.cut_off()
            if decoder.eof:
                decoder.restart()
            while data and decoder.feed(data):  # one block for each core, before waiting for the first
                data = file.read(archive.READ_BYTES)
    finally:
        decoder.close()


def compress(
    data: Bytes,
    model: ModelLike = None,
    *,
    threads: int | None = None,
    preset: str = blocks.DEFAULT_PRESET,
) -> bytes:
    """An archive of `data`.

    model: a model, a built-in's name or a model file; None for the default built-in model.
    threads: how many blocks to code at a time; None or 0 for one per core. It never changes the result.
    preset: "default" learns while it codes, "best" learns more, "fast" does not.
    Raises ModelNotFound, NotAModel, ModelVersionError, UsageError.
    """
    compressor = Compressor(model, threads=threads, preset=preset)
    return compressor.compress(data) + compressor.flush()


def decompress(data: Bytes, *, model: ModelLike = None, threads: int | None = None) -> bytes:
    """The content of an archive, or of several in a row.

    model: needed only if the archive was made with one that is not built in.
    Raises NotAnArchive, TruncatedArchive, CorruptArchive, ArchiveVersionError, WrongModel.
    """
    return b"".join(contents(io.BytesIO(data), model, threads))
