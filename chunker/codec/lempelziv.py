"""lzma: payloads of its blocks, and which content is worth whose time."""

from __future__ import annotations

import lzma
from collections import Counter

from chunker.codec.frames import MAX_BLOCK_BYTES, damaged
from chunker.core.backend import Stop

BEST = 9 | lzma.PRESET_EXTREME
QUICKEST = 0
PIECE_BYTES = 1 << 18  # between two looks at whether to go on
SAMPLE_BYTES = 1 << 16  # of which byte values are counted


def encode_lzma(data: bytes, stop: Stop, preset: int = BEST) -> bytes:
    """Raw LZMA2, without container. Raises Stopped."""
    dictionary = 1 << (len(data) - 1).bit_length() if data else 0
    settings = {
        "id": lzma.FILTER_LZMA2,
        "preset": preset,
        "dict_size": min(max(4096, dictionary), MAX_BLOCK_BYTES),
        "pb": 2 if 0 in data else 0,  # text has no alignment to exploit; a zero byte says that this is none
    }
    compressor = lzma.LZMACompressor(format=lzma.FORMAT_RAW, filters=[settings])
    parts = []
    with memoryview(data) as view:
        for at in range(0, len(data), PIECE_BYTES):
            stop.check()
            parts.append(compressor.compress(view[at : at + PIECE_BYTES]))
    parts.append(compressor.flush())
    return b"".join(parts)


def decode_lzma(payload: bytes, n_bytes: int) -> bytes:
    """The content of a raw LZMA2 payload. Raises CorruptArchive unless it is exactly `n_bytes` long."""
    decoder = _decoder(n_bytes)
    try:
        content = decoder.decompress(payload, max_length=n_bytes + 1)
    except lzma.LZMAError as exc:
        raise damaged("an lzma block does not decode") from exc
    if len(content) != n_bytes or not decoder.eof or decoder.unused_data:
        raise damaged("an lzma block has another length than it claims")
    return content


def decode_lzma_beginning(payload: bytes, n_bytes: int) -> bytes:
    """As much of the content as the beginning of a payload tells. Raises CorruptArchive."""
    try:
        return _decoder(n_bytes).decompress(payload, max_length=n_bytes)
    except lzma.LZMAError as exc:
        raise damaged("an lzma block does not decode") from exc


def _decoder(n_bytes: int) -> lzma.LZMADecompressor:
    # No distance is beyond the content.
    settings = {"id": lzma.FILTER_LZMA2, "dict_size": max(4096, n_bytes)}
    return lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=[settings])


def looks_like_noise(data: bytes) -> bool:
    """Whether the counts of byte values are as even as noise's (collision entropy above 7.91 bits),
    in a sample."""
    sample = data[:: len(data) // SAMPLE_BYTES | 1]  # an odd step, for numbers of two bytes have a calm one
    squares = sum(count * count for count in Counter(sample).values())
    return 256 * 16 * squares < 17 * len(sample) ** 2
