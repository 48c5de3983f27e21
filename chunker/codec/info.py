"""What an archive says about itself, without decoding any of it."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO, cast

from chunker.codec import urls
from chunker.codec.archive import read_table
from chunker.codec.finder import builtin_name
from chunker.codec.frames import Bytes, Kind, flat
from chunker.core.backend import Settings

if TYPE_CHECKING:
    from chunker.codec.files import PathOrFile


@dataclass(frozen=True)
class BlockInfo:
    """A block; bytes_in before and bytes_out after compression, head and checksum included."""

    kind: Kind
    bytes_in: int
    bytes_out: int
    settings: Settings | None


@dataclass(frozen=True)
class FrameInfo:
    """An archive, or several in a row.

    bytes_in: of the content, as far as the heads of its blocks are there; bytes_out: of the archive.
    fingerprints: of the models that blocks need, in order; 8 bytes each, 4 from a compact archive.
    version: of the format. archives: how many. complete: whether the last one is;
    padding_bytes: zeros behind it.
    """

    bytes_in: int
    bytes_out: int
    blocks: tuple[BlockInfo, ...]
    fingerprints: tuple[bytes, ...]
    version: int
    archives: int
    complete: bool
    padding_bytes: int

    @property
    def models(self) -> tuple[str | None, ...]:
        """For each of `fingerprints` the name of the built-in model that has it;
        None: it is none of these."""
        return tuple(builtin_name(fingerprint) for fingerprint in self.fingerprints)


def frame_info(archive: Bytes | PathOrFile) -> FrameInfo:
    """Sizes, blocks and models of an archive, from its index where it has one;
    no content is decoded or checked.

    archive: its bytes, or the first of them, of which 32 always tell the start of it; or a path, as str or
    Path; or a URL that fsspec knows; or a binary file, which need not be able to seek.

    Raises
    ------
    NotAnArchive, CorruptArchive, ArchiveVersionError, OSError. TruncatedArchive: even the start is cut.
    """
    if urls.is_url(archive):
        with urls.open_url(str(archive), "rb") as file:
            return _read(file)
    if isinstance(archive, (str, os.PathLike)):
        with open(archive, "rb") as file:
            return _read(file)
    return _read(cast(BinaryIO, archive) if hasattr(archive, "read") else io.BytesIO(flat(archive)))


def _read(file: BinaryIO) -> FrameInfo:
    table = read_table(file)
    blocks = [BlockInfo(head.kind, head.size, head.stored_size, head.settings) for head, _, _ in table.blocks]
    return FrameInfo(
        bytes_in=sum(block.bytes_in for block in blocks),
        bytes_out=table.stored_size,
        blocks=tuple(blocks),
        fingerprints=tuple(
            dict.fromkeys(print_ for head, _, print_ in table.blocks if head.kind.needs_model)
        ),
        version=max(start.version for start in table.starts),
        archives=len(table.starts),
        complete=table.complete,
        padding_bytes=table.padding_bytes,
    )
