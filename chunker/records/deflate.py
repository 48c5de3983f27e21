"""Deflate with a preset dictionary (RFC 1950, section 2.2): what general compressors offer for records."""

from __future__ import annotations

import zlib

from chunker.errors import CorruptArchive

DICTIONARY_BYTES = 1 << 15  # more than that no distance reaches
MISFIT = "the encoded record is damaged (deflate cannot read it): fetch or restore it"


class Deflate:
    """Codes records with one dictionary; threads may share it. No header and no checksum: a raw stream."""

    def __init__(self, dictionary: bytes) -> None:
        dictionary = dictionary[-DICTIONARY_BYTES:]
        self._packer = zlib.compressobj(9, zlib.DEFLATED, -15, 9, zlib.Z_DEFAULT_STRATEGY, dictionary)
        self._unpacker = zlib.decompressobj(-15, dictionary)

    def encode(self, record: bytes) -> bytes:
        """A raw stream. It never begins with the bytes fe and ff, whose block type is reserved."""
        packer = self._packer.copy()  # much quicker than reading the dictionary again
        return packer.compress(record) + packer.flush()

    def decode(self, payload: bytes, limit: int) -> bytes:
        """The record, of `limit` bytes at most. Raises CorruptArchive."""
        unpacker = self._unpacker.copy()
        try:
            record = unpacker.decompress(payload, limit + 1)
        except zlib.error:
            raise CorruptArchive(MISFIT) from None
        if not unpacker.eof or unpacker.unused_data or len(record) > limit:
            raise CorruptArchive(MISFIT)
        return record
