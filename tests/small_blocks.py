"""Presets that cut short inputs into many blocks."""

from __future__ import annotations

from dataclasses import replace

import pytest

from chunker.codec import blocks


def cut_small(
    patch: pytest.MonkeyPatch,
    block_bytes: int = 1000,
    lane_bytes: int = 200,
    small_bytes: int = 300,
    stretch_blocks: int = 8,
) -> None:
    """Let every preset make such blocks and lanes of the same kinds as ever; below `small_bytes` an input is
    compact, below half of `block_bytes` a block counts as small, and a stretch is below `stretch_blocks` blocks."""
    patch.setattr(blocks, "SMALL_BYTES", small_bytes)
    for name, preset in blocks.PRESETS.items():
        whole = preset.whole_bytes == preset.block_bytes
        small = replace(
            preset,
            block_bytes=block_bytes,
            whole_bytes=block_bytes if whole else small_bytes,
            cut=blocks.Cut(preset.cut.few, lane_bytes, lane_bytes),
            small_cut=blocks.Cut(1, lane_bytes, lane_bytes),
            small_bytes=block_bytes // 2 if preset.small_bytes else 0,
            stretch_bytes=stretch_blocks * block_bytes if preset.stretch_bytes else 0,
        )
        patch.setitem(blocks.PRESETS, name, small)
