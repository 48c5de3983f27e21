"""A stretch of content: its blocks, or one lzma block in place of all of them.

The net forgets at a block's end, and lzma sees no further in a block of its own. So where content repeats itself
further apart, or is monotonous, one lzma block over a stretch of up to 64 MiB, the dictionary of `xz -9`, is
smaller than all its blocks together, and takes their place. Which it is depends on the content alone.

    content -> lzma over all of it -> 64 times smaller than the content?  that
            -> blocks, in order    -> more than that, so far?             that, and no further block
                                   -> otherwise                           the blocks

One after the other: while lzma works, which takes 674 MB for 64 MiB, no block does.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from chunker.coding import blocks, frames
from chunker.coding.blocks import Model, Preset
from chunker.coding.frames import Kind
from chunker.coding.lempelziv import only_noise, smallest_lzma
from chunker.coding.pool import Pool, Result, Stop, never

Frame = tuple[bytes, bytes]
"""(head, whole block) as a full archive holds them."""

Advance = Callable[[int], object]
"""Told how many more bytes of content are done."""


def ignore(_: int) -> None:
    """The `advance` of a caller who does not watch."""


def first_stretch(preset: Preset, n_bytes: int) -> list[int]:
    """The blocks of the stretch to begin with when so many bytes of content have come, none to wait for more.

    At least two blocks are left, so that `Preset.plan` cuts no block otherwise than without stretches.
    """
    if not preset.stretch_bytes or n_bytes < preset.stretch_bytes:
        return []
    return [preset.block_bytes] * (preset.stretch_bytes // preset.block_bytes - 2)


def encode_whole(content: bytes, stop: Stop = never) -> Frame | None:
    """One lzma block; None if lzma does not make it smaller or has no prospects. Raises Stopped."""
    if only_noise(content):
        return None
    payload = smallest_lzma(content, stop)
    if len(payload) >= len(content):
        return None
    head = frames.make_head(Kind.LZMA, len(content), 0, len(payload))
    return head.raw, frames.block_frame(head, payload, content)


def cost(frame: Frame) -> int:
    """Bytes of the archive: its head stands in the index once more."""
    return len(frame[0]) + len(frame[1])


def encode_stretch(
    model: Model, content: bytes, plan: list[int], preset: Preset, pool: Pool, advance: Advance = ignore
) -> list[Frame]:
    """The blocks of a stretch, as long as `plan` says, or the one in their place.

    The pool must have nothing else to do. Raises Stopped.
    """
    whole = pool.submit(encode_whole, content).result() if len(plan) > 1 else None
    if whole is not None and cost(whole) * blocks.MONOTONY < len(content):
        advance(len(content))
        return [whole]
    planned = deque(plan)
    done: list[Frame] = []
    waiting: deque[tuple[int, Result[Frame]]] = deque()
    begin = end = size = 0
    while planned or waiting:
        while planned and len(waiting) < pool.depth:
            n_bytes = planned.popleft()
            block = content[begin : begin + n_bytes]
            waiting.append((n_bytes, pool.submit(blocks.encode_frame, model, block, preset)))
            begin += n_bytes
        n_bytes, result = waiting.popleft()
        done.append(result.result())
        size += cost(done[-1])
        if whole is not None and size > cost(whole):
            pool.drop()
            advance(len(content) - end)
            return [whole]
        end += n_bytes
        advance(n_bytes)
    return done
