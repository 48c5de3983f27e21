"""A codec for zarr 3: a compressor of arrays of text or bytes.

The package `zarr` finds it under the name `chunker_records` (entry point `zarr.codecs`).
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

from zarr.abc.codec import BytesBytesCodec

from chunker.records.chunks import ChunkCodec


@dataclass(frozen=True)
class RecordsCodec(BytesBytesCodec):  # type: ignore[misc]  # zarr is optional, and Any here
    """Codes each element of a chunk of text or bytes as a record of its own; the fields are ChunkCodec's.

    Raises
    ------
    ModelNotFound, NotAModel, ModelVersionError, UsageError. WrongModel: the file has another id.
    """

    model: str
    check: int = 0
    model_id: str = ""

    is_fixed_size = False

    @property
    def _chunks(self) -> ChunkCodec:
        return ChunkCodec(self.model, self.check, self.model_id)  # the model itself is cached

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> RecordsCodec:
        """From an array's metadata."""
        return cls(**data["configuration"])

    def to_dict(self) -> dict[str, Any]:
        """For an array's metadata."""
        return {"name": "chunker_records", "configuration": self._chunks.configuration}

    async def _encode_single(self, chunk_data: Any, chunk_spec: Any) -> Any:
        block = await asyncio.to_thread(self._chunks.encode, chunk_data.to_bytes())
        return chunk_spec.prototype.buffer.from_bytes(block)

    async def _decode_single(self, chunk_data: Any, chunk_spec: Any) -> Any:
        chunk = await asyncio.to_thread(self._chunks.decode, chunk_data.to_bytes())
        return chunk_spec.prototype.buffer.from_bytes(chunk)

    def compute_encoded_size(self, input_byte_length: int, chunk_spec: Any) -> int:
        """It depends on the elements."""
        raise NotImplementedError
