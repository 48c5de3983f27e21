"""Chunks of arrays of text or bytes as blocks of records, for numcodecs and zarr.

Both lay such a chunk out as VLenUTF8 and VLenBytes do: the number of elements, then of each its length and
its bytes; numbers with 4 bytes, little-endian.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

from chunker.errors import UsageError, WrongModel
from chunker.records.blocks import decode_block, encode_block
from chunker.records.codec import RecordCodec

SIZE = 4  # bytes of a number


@dataclass(frozen=True)
class ChunkCodec:
    """Codes each element of a chunk as a record of its own; a chunk has a checksum.

    model: path of the model's file. check: as of RecordCodec. model_id: the model's, in hexadecimal; "" to
    look it up.
    """

    model: str
    check: int = 0
    model_id: str = ""

    @cached_property
    def codec(self) -> RecordCodec:
        """The codec. Raises WrongModel: the file has another id. ModelError, UsageError."""
        codec = RecordCodec(self.model, check=self.check)
        found = codec.model.id.hex()
        if self.model_id not in ("", found):
            raise WrongModel(
                f"the array was written with the model {self.model_id}, and {self.model} holds {found}: "
                "put that one there"
            )
        return codec

    @property
    def configuration(self) -> dict[str, Any]:
        """The arguments, for the array's metadata; the id looked up."""
        return {"model": self.model, "check": self.check, "model_id": self.codec.model.id.hex()}

    def encode(self, chunk: bytes) -> bytes:
        """A block. Raises UsageError: the chunk has another layout."""
        return encode_block(self.codec, _elements(chunk))

    def decode(self, block: bytes) -> bytes:
        """The chunk. Raises CorruptArchive."""
        records = decode_block(self.codec, block)
        out = bytearray(len(records).to_bytes(SIZE, "little"))
        for record in records:
            out += len(record).to_bytes(SIZE, "little") + record
        return bytes(out)


def _elements(chunk: bytes) -> list[bytes]:
    elements, at = [], SIZE
    while at < len(chunk):
        begin = at + SIZE
        at = begin + int.from_bytes(chunk[at:begin], "little")
        elements.append(chunk[begin:at])
    if at != len(chunk) or len(elements) != int.from_bytes(chunk[:SIZE], "little"):
        raise UsageError(
            "the chunk is none of text or bytes of any length: use the codec of records for these alone"
        )
    return elements
