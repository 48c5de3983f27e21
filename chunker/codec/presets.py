"""How much work goes into a block, and into which blocks a content is cut."""

from __future__ import annotations

from dataclasses import replace

from chunker.core.backend import GATE_ALWAYS, Contexts, Settings
from chunker.errors import UsageError

# Tuned on files of many kinds; a reader needs none of this.
PRESETS = {
    "fast": Settings(Contexts.FEW, 400),
    "default": Settings(Contexts.MANY, 600),
    "best": Settings(Contexts.ALL, GATE_ALWAYS),
}
DEFAULT_PRESET = "default"
MODELS = {"fast": "small"}  # built-in ones; the others take the default one

Preset = str | int | Settings
"""The name of a preset, a level from 1 to 9 as in gzip and bz2, or Settings of one's own."""

BLOCK_BYTES = 1 << 22
STREAM_BYTES = 4 * BLOCK_BYTES  # while so much is left, whole blocks are cut off, two at a time
SMALL_BYTES = 1 << 16  # an input below is one block, in the compact form


def settings_of(preset: Preset) -> Settings:
    """The settings of a preset. Levels 1 to 3 mean fast, 4 to 6 default, 7 to 9 best.

    Raises
    ------
    UsageError: there is no such preset.
    """
    return preset if isinstance(preset, Settings) else PRESETS[_name(preset)]


def model_name(preset: Preset) -> str | None:
    """Of the built-in model for a preset, where the caller names none; None: the default one.

    Raises
    ------
    UsageError: there is no such preset.
    """
    return None if isinstance(preset, Settings) else MODELS.get(_name(preset))


def without_model(preset: Preset) -> Settings:
    """The same contexts alone."""
    return replace(settings_of(preset), gate=0)


def _name(preset: str | int) -> str:
    """Raises UsageError."""
    if isinstance(preset, int) and not isinstance(preset, bool) and 1 <= preset <= 9:
        return list(PRESETS)[(preset - 1) // 3]
    if isinstance(preset, str) and preset in PRESETS:
        return preset
    raise UsageError(
        f"preset {preset!r} is not known: choose {', '.join(PRESETS)}, or a level from 1 (fast) to 9 (best)"
    )


def plan(n_bytes: int) -> list[int]:
    """The lengths of the blocks of a content, however it arrives: pairs of whole blocks, then `last`.

    No machine and no number of workers cuts differently.
    """
    pairs = max(0, (n_bytes - STREAM_BYTES) // (2 * BLOCK_BYTES) + 1)
    return [BLOCK_BYTES] * (2 * pairs) + last(n_bytes - 2 * pairs * BLOCK_BYTES)


def last(n_bytes: int) -> list[int]:
    """The lengths of the last blocks, for less than STREAM_BYTES.

    Below one block there is one, because level 0 learns from all of it; above, an even number of equal ones,
    which two cores share.
    """
    if n_bytes < BLOCK_BYTES:
        return [n_bytes] if n_bytes else []
    count = 2 * -(-n_bytes // (2 * BLOCK_BYTES))
    short, longer = divmod(n_bytes, count)
    return [short + 1] * longer + [short] * (count - longer)
