"""What coding costs, byte for byte, as the codec itself counts it."""

from __future__ import annotations

import contextlib
import itertools
from array import array
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from chunker.codec import presets, samples
from chunker.codec.executor import worker_count
from chunker.codec.finder import as_model
from chunker.codec.frames import MAX_BLOCK_BYTES
from chunker.codec.pool import Advance, Pool, ignore
from chunker.codec.presets import Preset
from chunker.core import backend as core
from chunker.core.backend import Progress, Stop, Trace, asleep_bytes, primed_capacity

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
    rank_from: float | None = None,
) -> Trace:
    """Bits and level of each byte of `data`, coded in the blocks of an archive;
    lzma stands in for none of them.

    The arguments are those of `chunker.compress`; advance: as of Pool; detail,
    rank_from: as in `Session.read`.

    Raises
    ------
    ModelNotFound, NotAModel, ModelVersionError, UsageError.
    """
    settings = presets.settings_of(preset)
    chosen = as_model(model, preset) if settings.needs_model else None

    def one(part: _Part, stop: Stop, progress: Progress) -> Trace:
        reading = Progress() if part.begin else progress
        known = samples.text(part.sample)
        capacity = primed_capacity(known, len(part.block))
        session = core.backend().session(settings, chosen, capacity, stop, reading)
        session.read(known, asleep=asleep_bytes(known))
        session.read(part.block[: part.begin])
        found = session.read(part.block[part.begin : part.end], detail=detail, rank_from=rank_from)
        progress.value = part.end - part.begin
        return found

    parts, at = [], 0
    sizes = presets.plan(len(data))
    halved = rank_from is not None and len(sizes) < worker_count(workers)
    for size in sizes:
        block = data[at : at + size]
        middle = int(size * FIRST_PART) if halved else 0
        sample = samples.number_for(block, settings, MAX_BLOCK_BYTES)
        cuts = [0, middle, size] if middle else [0, size]
        parts += [_Part(block, *ends, sample) for ends in itertools.pairwise(cuts)]
        at += size
    with contextlib.closing(Pool(one, workers, advance, size=lambda part: part.end - part.begin)) as pool:
        return _joined([*pool.imap(parts)])


FIRST_PART = 2 / 3
"""Of a block that two threads look into. Ranks take about as long as reading, and who tells those of the
second part has to read the first one, too: so both end at the same time, a third earlier than one alone."""


@dataclass(frozen=True)
class _Part:
    """Bytes begin .. end - 1 of a block, which reads a sample before."""

    block: bytes
    begin: int
    end: int
    sample: int


def _joined(traces: list[Trace]) -> Trace:
    """The trace of parts in a row."""
    whole = {field.name: getattr(Trace(array("f"), b"", b""), field.name) for field in fields(Trace)}
    for each in traces:
        for name in whole:
            whole[name] += getattr(each, name)
    return Trace(**whole)
