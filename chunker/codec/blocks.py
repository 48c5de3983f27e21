"""One block: content to payload, and back. The joint of core, lzma and container."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from chunker.codec import frames, samples
from chunker.codec.archive import Block
from chunker.codec.frames import Coded, Kind
from chunker.core import backend as core
from chunker.core.backend import Progress, Settings, Stop

if TYPE_CHECKING:
    from chunker.models import Model

WORTHWHILE_BYTES = 1 << 14  # a shorter content takes the core no time
MONOTONY = 64  # what lzma makes so many times smaller is not worth the core's time


def encode_block(
    content: bytes,
    settings: Settings,
    model: Model | None,
    stop: Stop,
    progress: Progress,
    *,
    compact: bool = False,
) -> Coded:
    """One block, which may be empty, in the way that suits it:

    - noise is stored at once;
    - what lzma at its quickest makes 64 times smaller is left to lzma at its best: the core would not earn
    its time;
    - all else goes through the core, behind the sample that it is like if the settings leave that open, and
    is stored if that makes it no smaller.

    model: needed if the settings need one. compact: whether it becomes a compact archive, which counts for
    the smallest ones.

    Raises
    ------
    Stopped, MemoryError.
    """
    raw = Coded(Kind.RAW, None, content)
    if len(content) >= WORTHWHILE_BYTES:
        found = _without_core(content, stop)
        if found is not None:
            return found
    limit_bytes = len(content) - frames.extra_bytes(settings, len(content), compact=compact)
    if limit_bytes <= 0:
        return raw
    number = samples.number_for(content, settings, frames.MAX_BLOCK_BYTES)
    settings, known = replace(settings, sample=number), samples.text(number)
    payload = core.backend().encode(content, settings, model, limit_bytes, stop, progress, known)
    if payload is None:
        return raw
    if not frames.believable(len(content), len(payload)):
        return _lzma(content, stop)
    return Coded(frames.kind_of(settings), settings, payload)


def _without_core(content: bytes, stop: Stop) -> Coded | None:
    """Noise stored, monotony under lzma; None for the rest."""
    from chunker.codec import lempelziv  # short records need no lzma

    quick = len(lempelziv.encode_lzma(content, stop, lempelziv.QUICKEST))
    if quick * MONOTONY < len(content):
        return _lzma(content, stop)
    if quick >= len(content) and lempelziv.looks_like_noise(content):
        return Coded(Kind.RAW, None, content)
    return None


def _lzma(content: bytes, stop: Stop) -> Coded:
    from chunker.codec.lempelziv import encode_lzma

    payload = encode_lzma(content, stop)
    return Coded(Kind.LZMA, None, payload) if len(payload) < len(content) else Coded(Kind.RAW, None, content)


def decode_block(block: Block, model: Model | None, stop: Stop, progress: Progress) -> bytes:
    """The content of a block, checked; of a block that is cut (`crc` is None) the beginning that is certain.

    model: needed if the block's kind needs one.

    Raises
    ------
    CorruptArchive, Stopped, MemoryError.
    """
    head = block.head
    if block.crc is None:
        return _decode_cut(block, model, stop, progress)
    if head.settings is not None:
        job = (head.size, head.settings, model, stop, progress)
        content = core.backend().decode(block.payload, *job, known=samples.text(head.settings.sample))
    elif head.kind is Kind.LZMA:
        from chunker.codec.lempelziv import decode_lzma

        content = decode_lzma(block.payload, head.size)
    else:
        content = block.payload
    block.check(content)
    progress.value = len(content)
    return content


def _decode_cut(block: Block, model: Model | None, stop: Stop, progress: Progress) -> bytes:
    """What the beginning of a payload tells of the content, whatever followed it.

    The payload of the arithmetic coder is a number, and what is cut off lies between all zeros and all ones.
    So the bytes on which both continuations agree are certain; four bytes of them fill the window of the
    decoder.
    """
    head = block.head
    if head.settings is not None:
        lost = min(4, head.payload_size - len(block.payload))
        decode, job = core.backend().decode, (head.size, head.settings, model, stop, progress)
        known = samples.text(head.settings.sample)
        low, high = (
            decode(block.payload + rest * lost, *job, partial=True, known=known) for rest in (b"\0", b"\xff")
        )
        certain = next((at for at, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), len(low))
        return low[:certain]
    if head.kind is Kind.LZMA:
        from chunker.codec.lempelziv import decode_lzma_beginning

        return decode_lzma_beginning(block.payload, head.size)
    return block.payload
