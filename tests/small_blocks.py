"""Presets that cut short inputs into many blocks."""

from __future__ import annotations

import pytest

from chunker.codec import blocks, presets


def cut_small(
    patch: pytest.MonkeyPatch,
    block_bytes: int = 1000,
    small_bytes: int = 300,
    *,
    compared_with_lzma: bool = True,
) -> None:
    """Make such blocks; below `small_bytes` an input is compact.
    What lzma makes 8 times smaller is left to it, unless other processes code, which would not know."""
    patch.setattr(presets, "BLOCK_BYTES", block_bytes)
    patch.setattr(presets, "STREAM_BYTES", 4 * block_bytes)
    patch.setattr(presets, "SMALL_BYTES", small_bytes)
    if not compared_with_lzma:
        return
    patch.setattr(blocks, "WORTHWHILE_BYTES", block_bytes // 2)
    patch.setattr(blocks, "MONOTONY", 8)
