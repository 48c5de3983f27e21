"""lzma: payloads of its blocks, and which content is not worth its time."""

from __future__ import annotations

import lzma

import numpy as np

from chunker.codec.frames import MAX_LZMA_BYTES, damaged
from chunker.codec.pool import Stop, Stopped, never

BEST = 9 | lzma.PRESET_EXTREME
PIECE_BYTES = 1 << 18  # between two looks at whether to go on

# Content below is not looked at for noise; of longer content lzma tries so much.
NOISE_BYTES = 1 << 14


def _pb(data: bytes) -> int:
    """Text has no alignment to exploit; a zero byte says that this is none. A chunk stores the choice."""
    return 2 if 0 in data else 0


def encode_lzma(data: bytes, stop: Stop = never, preset: int = BEST, pb: int | None = None) -> bytes:
    """Raw LZMA2: without container, so that it also serves short blocks.

    pb: of LZMA, None for what is likely to be the better one of 0 and 2. Raises Stopped.
    """
    dictionary = 1 << (len(data) - 1).bit_length() if data else 0
    settings = {
        "id": lzma.FILTER_LZMA2,
        "preset": preset,
        "dict_size": min(max(4096, dictionary), MAX_LZMA_BYTES),
        "pb": _pb(data) if pb is None else pb,
    }
    compressor = lzma.LZMACompressor(format=lzma.FORMAT_RAW, filters=[settings])
    parts = []
    with memoryview(data) as view:
        for at in range(0, len(data), PIECE_BYTES):
            if stop():
                raise Stopped
            parts.append(compressor.compress(view[at : at + PIECE_BYTES]))
    parts.append(compressor.flush())
    del compressor  # before the parts are joined: it holds 674 MB for 64 MiB
    return b"".join(parts)


def smallest_lzma(data: bytes, stop: Stop = never) -> bytes:
    """At most as long as what `xz -9e` makes, which has pb 2: the other is tried too where it has prospects.

    Raises Stopped.
    """
    packed = encode_lzma(data, stop, pb=2)
    if _pb(data) == 2:
        return packed
    other = encode_lzma(data, stop)
    return other if len(other) <= len(packed) else packed


def decode_lzma(payload: bytes, n_bytes: int) -> bytes:
    """The content of a raw LZMA2 payload. Raises CorruptArchive unless it is exactly `n_bytes` long."""
    # No distance is beyond the content.
    settings = {"id": lzma.FILTER_LZMA2, "dict_size": max(4096, n_bytes)}
    decoder = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=[settings])
    try:
        content = decoder.decompress(payload, max_length=n_bytes + 1)
    except lzma.LZMAError as exc:
        raise damaged("an lzma block does not decode") from exc
    if len(content) != n_bytes or not decoder.eof or decoder.unused_data:
        raise damaged("an lzma block has another length than it claims")
    return content


def looks_like_noise(data: bytes) -> bool:
    """Whether the counts of byte values are as even as noise's (collision entropy above 7.91 bits).

    In integers, so that every machine decides alike.
    """
    if len(data) < NOISE_BYTES:
        return False
    counts = np.zeros(256, dtype=np.int64)
    for at in range(0, len(data), PIECE_BYTES):  # numpy makes 8 bytes of each
        counts += np.bincount(np.frombuffer(data[at : at + PIECE_BYTES], dtype=np.uint8), minlength=256)
    return bool(256 * 16 * int(counts @ counts) < 17 * len(data) ** 2)


def repeats_itself(data: bytes) -> bool:
    """Whether one of a sample of its words of 8 bytes, at any position, occurs twice.

    The words to look at are chosen by their value, so that both ends of a repetition choose alike: one of 251,
    which misses one repetition of 1000 bytes in 50.
    """
    at_offsets = (np.frombuffer(data, "<u8", (len(data) - offset) // 8, offset) for offset in range(8))
    sample = np.concatenate([words[words % np.uint64(251) == 0] for words in at_offsets])
    return len(np.unique(sample)) < len(sample)


def only_noise(data: bytes) -> bool:
    """Whether no method has prospects: even counts, no repetition, and lzma gains nothing on a piece."""
    if not looks_like_noise(data) or repeats_itself(data):
        return False
    piece = data[:NOISE_BYTES]
    return len(encode_lzma(piece, preset=0)) >= len(piece)
