"""A codec for numcodecs, and for what stores arrays with it: a compressor behind VLenUTF8 or VLenBytes.

The package `numcodecs` finds it under the name `chunker_records` (entry point `numcodecs.codecs`).
"""

from __future__ import annotations

import os
from typing import Any

from numcodecs.abc import Codec
from numcodecs.compat import ensure_bytes, ndarray_copy

from chunker.records.chunks import ChunkCodec


class RecordsCodec(Codec):  # type: ignore[misc]  # numcodecs is optional, and Any here
    """Codes each element of a chunk of text or bytes as a record of its own; the arguments are ChunkCodec's.

    Raises
    ------
    ModelNotFound, NotAModel, ModelVersionError, UsageError. WrongModel: the file has another id.
    """

    codec_id = "chunker_records"

    def __init__(self, model: str | os.PathLike[str], check: int = 0, model_id: str = "") -> None:
        self._chunks = ChunkCodec(os.fspath(model), check, model_id)

    def encode(self, buf: Any) -> bytes:
        """A chunk as VLenUTF8 or VLenBytes give it, encoded. Raises UsageError: it is none."""
        return self._chunks.encode(ensure_bytes(buf))

    def decode(self, buf: Any, out: Any = None) -> Any:
        """The inverse. Raises CorruptArchive."""
        return ndarray_copy(self._chunks.decode(ensure_bytes(buf)), out)

    def get_config(self) -> dict[str, Any]:
        """What goes into an array's metadata."""
        return {"id": self.codec_id, **self._chunks.configuration}
