"""What general compressors make of single records of a domain that they know a dictionary of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from chunker.records.deflate import DICTIONARY_BYTES, Deflate

ZSTD_DICTIONARY_BYTES = 110 << 10  # what `zstd --train` makes unless told otherwise
ZSTD_LEVEL = 19


@dataclass(frozen=True)
class Rival:
    """One of them. missing: what has to be installed first; then there are no functions.

    Both without headers that a record need not have: no magic number, no size, no checksum.
    """

    name: str
    encode: Callable[[bytes], bytes] | None = None
    decode: Callable[[bytes], bytes] | None = None
    missing: str | None = None

    def coded_bytes(self, records: Sequence[bytes]) -> int | None:
        """What the records need, each alone; None if it is not installed."""
        return None if self.encode is None else sum(len(self.encode(record)) for record in records)


def rivals(training: Sequence[bytes], separator: bytes) -> list[Rival]:
    """Deflate with the end of the training records as preset dictionary, and zstd with a trained one."""
    deflate = Deflate(tail(training, separator))

    def inflate(encoded: bytes) -> bytes:
        return deflate.decode(encoded, 1 << 28)

    return [Rival("deflate, preset dictionary", deflate.encode, inflate), _zstd(training)]


def tail(records: Sequence[bytes], separator: bytes, size: int = DICTIONARY_BYTES) -> bytes:
    """The last records, each followed by the separator: whole ones of `size` bytes at most, but at least the
    end of one."""
    chosen: list[bytes] = []
    left = size
    for record in reversed(records):
        left -= len(record) + len(separator)
        if left < 0:
            break
        chosen.append(record + separator)
    if not chosen and records:
        return (records[-1] + separator)[-size:]
    return b"".join(reversed(chosen))


def _zstd(training: Sequence[bytes]) -> Rival:
    name = "zstd -19, trained dictionary"
    try:
        import zstandard
    except ImportError:
        return Rival(name, missing="pip install zstandard")
    try:
        dictionary = zstandard.train_dictionary(ZSTD_DICTIONARY_BYTES, list(training), level=ZSTD_LEVEL)
    except zstandard.ZstdError:  # too few records for it
        return Rival(name, missing="more records")
    options: dict[str, Any] = {"write_content_size": False, "write_dict_id": False, "write_checksum": False}
    parameters = zstandard.ZstdCompressionParameters.from_level(
        ZSTD_LEVEL, format=zstandard.FORMAT_ZSTD1_MAGICLESS, **options
    )
    packer = zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters)
    unpacker = zstandard.ZstdDecompressor(dict_data=dictionary, format=zstandard.FORMAT_ZSTD1_MAGICLESS)

    def decode(encoded: bytes) -> bytes:
        return bytes(unpacker.decompressobj().decompress(encoded))

    return Rival(name, packer.compress, decode)
