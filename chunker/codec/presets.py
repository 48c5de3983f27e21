"""How much work goes into a block, and into which blocks a content is cut."""

from __future__ import annotations

from chunker.core.backend import GATE_ALWAYS, Contexts, Settings
from chunker.errors import UsageError

# Tuned on files of many kinds; a reader needs none of this.
PRESETS = {
    "fast": Settings(Contexts.FEW, 0),
    "default": Settings(Contexts.MANY, 1200),
    "best": Settings(Contexts.ALL, GATE_ALWAYS),
}
DEFAULT_PRESET = "default"

BLOCK_BYTES = 1 << 22
STREAM_BYTES = 4 * BLOCK_BYTES  # while so much is left, whole blocks are cut off, two at a time
SMALL_BYTES = 1 << 16  # an input below is one block, in the compact form


def settings_of(preset: str | Settings) -> Settings:
    """The settings of a preset's name, or those that are given. Raises UsageError."""
    if isinstance(preset, Settings):
        return preset
    if preset not in PRESETS:
        raise UsageError(f"preset {preset!r} is not known: choose one of {', '.join(PRESETS)}")
    return PRESETS[preset]


def without_model(settings: Settings) -> Settings:
    """The same contexts alone."""
    return Settings(settings.contexts, 0)


def plan(n_bytes: int) -> list[int]:
    """The lengths of the blocks of a content, however it arrives: pairs of whole blocks, then `last`.

    No machine and no number of threads cuts differently.
    """
    pairs = max(0, (n_bytes - STREAM_BYTES) // (2 * BLOCK_BYTES) + 1)
    return [BLOCK_BYTES] * (2 * pairs) + last(n_bytes - 2 * pairs * BLOCK_BYTES)


def last(n_bytes: int) -> list[int]:
    """How what is left below STREAM_BYTES is cut: below one block not at all, for level 0 learns from the whole of
    it; else into an even number of equal ones, which two cores share."""
    if n_bytes < BLOCK_BYTES:
        return [n_bytes] if n_bytes else []
    count = 2 * -(-n_bytes // (2 * BLOCK_BYTES))
    short, longer = divmod(n_bytes, count)
    return [short + 1] * longer + [short] * (count - longer)
