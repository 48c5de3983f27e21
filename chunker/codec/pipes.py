"""From one open file into another: archives of any size through bounded memory."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from chunker.codec import presets
from chunker.codec.executor import Executor
from chunker.codec.finder import ModelFinder
from chunker.codec.pool import Advance, ignore
from chunker.codec.presets import Preset
from chunker.codec.stream import BlockDecoder, Compressor

if TYPE_CHECKING:
    from chunker.codec.finder import ModelLike

CHUNK_BYTES = 1 << 17


@dataclass(frozen=True)
class Packed:
    """What became of a file. bytes_out: of the archive; model: the name of the one that it needs,
    None if none."""

    bytes_out: int
    model: str | None


@dataclass(frozen=True)
class Unpacked:
    """What was found in a file. models: names of those that it needed;
    padding_bytes: zeros behind the archives."""

    models: list[str]
    padding_bytes: int


def pack(
    source: BinaryIO,
    target: BinaryIO,
    preset: Preset = presets.DEFAULT_PRESET,
    *,
    model: ModelLike = None,
    workers: int | None = None,
    advance: Advance = ignore,
    executor: Executor | None = None,
) -> Packed:
    """Compress a file into another; the arguments are those of `compress`, and `advance` of Compressor.

    Raises
    ------
    ModelNotFound, NotAModel, ModelVersionError, UsageError, ExecutorError, OSError.
    """
    written = 0
    with contextlib.closing(
        Compressor(preset, model=model, workers=workers, advance=advance, executor=executor)
    ) as compressor:
        while data := source.read(CHUNK_BYTES):
            written += target.write(compressor.compress(data))
        written += target.write(compressor.flush())
        return Packed(written, compressor.model_name)


def unpack(
    source: BinaryIO,
    target: BinaryIO | None,
    *,
    model: ModelLike = None,
    workers: int | None = None,
    advance: Advance = ignore,
    executor: Executor | None = None,
) -> Unpacked:
    """Decompress an archive, or several in a row, into another file, or nowhere; everything is checked.

    Raises
    ------
    ArchiveError, after all that could be decoded was written. ModelNotFound, NotAModel, ModelVersionError,
    ExecutorError, OSError.
    """
    models = ModelFinder(model)
    with contextlib.closing(BlockDecoder(models, workers, advance, executor)) as decoder:
        for content in decoder.contents(decoder.read_from(source)):
            if target is not None:
                target.write(content)
        return Unpacked(models.found, decoder.parser.padding_bytes)
