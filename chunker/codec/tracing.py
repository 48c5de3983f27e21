"""What coding costs, byte for byte, as the codec itself counts it."""

from __future__ import annotations

import contextlib
from array import array
from typing import TYPE_CHECKING

from chunker.codec import presets
from chunker.codec.finder import as_model
from chunker.codec.pool import Advance, Pool, ignore
from chunker.codec.presets import Preset
from chunker.core import backend as core
from chunker.core.backend import Progress, Stop, Trace

if TYPE_CHECKING:
    from chunker.codec.finder import ModelLike


def trace(
    data: bytes,
    preset: Preset = presets.DEFAULT_PRESET,
    *,
    model: ModelLike = None,
    workers: int | None = None,
    advance: Advance = ignore,
    detail: bool = False,
) -> Trace:
    """Bits and level of each byte of `data`, coded in the blocks of an archive;
    lzma stands in for none of them.

    The arguments are those of `chunker.compress`; advance: called with how many more bytes are coded; detail:
    as in `Session.read`.

    Raises
    ------
    ModelNotFound, NotAModel, ModelVersionError, UsageError.
    """
    settings = presets.settings_of(preset)
    chosen = as_model(model) if settings.needs_model else None

    def one(content: bytes, stop: Stop, progress: Progress) -> Trace:
        return (
            core.backend()
            .session(settings, chosen, len(content), stop, progress)
            .read(content, detail=detail)
        )

    blocks, at = [], 0
    for size in presets.plan(len(data)):
        blocks.append(data[at : at + size])
        at += size
    with contextlib.closing(Pool(one, workers, advance)) as pool:
        return _joined([*pool.imap(blocks)])


def _joined(traces: list[Trace]) -> Trace:
    """The trace of blocks in a row."""
    bits, guesses, probabilities, level_bits = array("f"), array("H"), array("H"), array("f")
    for each in traces:
        bits.extend(each.bits)
        guesses.extend(each.guesses)
        probabilities.extend(each.probabilities)
        level_bits.extend(each.level_bits)
    return Trace(
        bits,
        b"".join(each.levels for each in traces),
        b"".join(each.woke for each in traces),
        guesses,
        b"".join(each.confidences for each in traces),
        probabilities,
        level_bits,
    )
