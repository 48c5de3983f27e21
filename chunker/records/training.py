"""Makes a model of records: chooses the sample that the contexts read, and how many contexts there are.

    records -- held out: validation      figures of each candidate
            `- the rest ---------------> sample -> best candidate -> sample of all records -> model

Each candidate codes the validation records as the codec will, and what it needs decides.
"""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from chunker.codec.pool import Pool
from chunker.codec.presets import DEFAULT_PRESET, PRESETS
from chunker.core.backend import Contexts, Progress, Stop
from chunker.errors import UsageError
from chunker.models import Model
from chunker.records.codec import RecordCodec
from chunker.records.model import MAX_SAMPLE_BYTES, RecordConfig, RecordModel
from chunker.records.rivals import Rival, rivals, tail
from chunker.records.splitting import LINES, Rule

SIZES = (1 << 14, 1 << 16, 1 << 18, 1 << 20)  # of samples that are tried
FIRST_SIZE = 1 << 16  # at which the contexts are chosen
CONTEXTS_SHARE = 0.98  # more contexts, at half the speed, are worth it if they need less than this
SIZE_SHARE = 0.95  # a sample four times as large is worth it if it needs less than this
VALIDATION_SHARE = 0.1
VALIDATION_RECORDS, VALIDATION_BYTES = 2000, 1 << 16  # at most
FEWEST = 10  # records, of which some can be held out

Say = Callable[[str], None]


@dataclass(frozen=True)
class Candidate:
    """One way to use the training records.

    size: of the sample in bytes, at most. shuffled: whether it is read in random order rather than in that of
    the file. net: whether the recurrent levels that training was given wake where the contexts are unsure.
    """

    contexts: Contexts
    size: int
    shuffled: bool
    net: bool = False


@dataclass(frozen=True)
class Point:
    """What a candidate needs for the validation records. seconds: of reading the sample, with one core."""

    candidate: Candidate
    sample_bytes: int
    coded_bytes: int
    seconds: float


@dataclass(frozen=True)
class Trained:
    """What training gave.

    model: not saved yet. points: all candidates, in the order in which they were tried; empty if there were
    too few records to hold some out. validation_records, validation_bytes: what they coded. rivals: each with
    what it needs for them, None if it is not installed. coded_bytes: what the model needs. chosen: the
    candidate that it is; None for deflate.
    """

    model: RecordModel
    points: Sequence[Point] = ()
    validation_records: int = 0
    validation_bytes: int = 0
    rivals: Sequence[tuple[Rival, int | None]] = field(default=())
    coded_bytes: int | None = None
    chosen: Point | None = None

    def bits(self, coded_bytes: int | None) -> float | None:
        """Bits a byte of the validation records."""
        if coded_bytes is None or not self.validation_bytes:
            return None
        return 8 * coded_bytes / self.validation_bytes


def train(
    records: Sequence[bytes],
    rule: Rule = LINES,
    *,
    max_sample: int = MAX_SAMPLE_BYTES,
    net: Model | None = None,
    validation: float = VALIDATION_SHARE,
    seed: int = 0,
    workers: int | None = None,
    tried: Callable[[Point], None] = lambda point: None,
) -> Trained:
    """A model of records like these, in the order in which they came.

    rule: how files of them are cut; only noted in the model. max_sample: bytes, of which each costs 3 to 10
    microseconds when the model is first used. net: try its recurrent levels as well; if they pay, the records
    are bound to this model, too. validation: share of the records that is held out, half of them the last
    ones and half from all over; the model gets them in the end. tried: called with each candidate's figures
    as they come.

    Raises
    ------
    UsageError: there are no records, or none with a byte in it, or a number is out of range.
    """
    if not 0 < validation < 1 or not 1 <= max_sample <= MAX_SAMPLE_BYTES:
        raise UsageError(
            f"a validation share lies between 0 and 1, and a sample has 1 to {MAX_SAMPLE_BYTES:,} bytes"
        )
    records = [record for record in records if record]
    if not records:
        raise UsageError("there are no records to train on; check the file and --records")
    base = RecordConfig(terminator=terminator_of(records), rule=rule)
    if len(records) < FEWEST:
        candidate = Candidate(Contexts.MANY, max_sample, shuffled=False)
        return Trained(_model(base, records, candidate, seed, None))
    training, held_out = hold_out(records, validation, seed)
    search = _Search(base, training, held_out, seed, net, workers, tried)
    best = search.best(max_sample)
    peers = [(peer, peer.coded_bytes(held_out)) for peer in rivals(training, base.terminator)]
    deflated = sum(map(len, RecordCodec(_deflating(base, training)).encode_batch(held_out)))
    if deflated < best.coded_bytes:
        model, coded, chosen = _deflating(base, records), deflated, None
    else:
        model, coded, chosen = _model(base, records, best.candidate, seed, net), best.coded_bytes, best
    trained = Trained(model, search.points, len(held_out), sum(map(len, held_out)), peers, coded, chosen)
    model.summary.update(_summary(trained))
    return trained


def terminator_of(records: Sequence[bytes]) -> bytes:
    """What to put behind each record: a newline, or a newline and the byte that is in the fewest records."""
    if not any(b"\n" in record for record in records):
        return b"\n"
    by_rareness = [0, 30, *range(1, 30), 31, *range(127, 256), *range(32, 127)]
    met = dict.fromkeys(by_rareness, 0)
    for record in records:
        for byte in set(record):
            met[byte] += 1
    return b"\n" + bytes([min(by_rareness, key=met.__getitem__)])


def hold_out(records: Sequence[bytes], share: float, seed: int) -> tuple[list[bytes], list[bytes]]:
    """Training and validation records, in order.

    Half of the latter are the last ones, because what comes later may differ from all before; the others are
    from all over, because a file may also be sorted by what decides nothing.
    """
    wanted = max(2, min(round(share * len(records)), VALIDATION_RECORDS))
    last = len(records) - wanted // 2
    chosen = set(random.Random(seed).sample(range(last), wanted - wanted // 2))
    chosen.update(range(last, len(records)))
    n_bytes = 0
    few: list[int] = []
    draw = random.Random(seed)
    for number in sorted(chosen, key=lambda _: draw.random()):  # of long records fewer will do
        n_bytes += len(records[number])
        if few and n_bytes > VALIDATION_BYTES:
            break
        few.append(number)
    training = [record for number, record in enumerate(records) if number not in chosen]
    return training, [records[number] for number in sorted(few)]


def sample_of(records: Sequence[bytes], terminator: bytes, candidate: Candidate, seed: int) -> bytes:
    """Records from all over, each with the terminator behind it; the last one among them, or last of all."""
    whole = sum(map(len, records)) + len(terminator) * len(records)
    step = max(1.0, whole / candidate.size)
    chosen, place = [], float(len(records) - 1)
    while place >= 0:
        chosen.append(records[int(place)])
        place -= step
    chosen.reverse()
    if candidate.shuffled:
        random.Random(seed).shuffle(chosen)
    return tail(chosen, terminator, candidate.size)


def _model(
    base: RecordConfig, records: Sequence[bytes], candidate: Candidate, seed: int, net: Model | None
) -> RecordModel:
    config = replace(base, contexts=candidate.contexts)
    net = net if candidate.net else None
    if net is not None:
        config = replace(config, gate=PRESETS[DEFAULT_PRESET].gate, stack=net.fingerprint.hex())
    return RecordModel(config, sample_of(records, base.terminator, candidate, seed), net=net)


def _deflating(base: RecordConfig, records: Sequence[bytes]) -> RecordModel:
    return RecordModel(replace(base, method="deflate"), tail(records, base.terminator))


class _Search:
    """Tries candidates, each once, side by side."""

    def __init__(
        self,
        base: RecordConfig,
        training: Sequence[bytes],
        held_out: Sequence[bytes],
        seed: int,
        net: Model | None,
        workers: int | None,
        tried: Callable[[Point], None],
    ) -> None:
        self._base, self._training, self._held_out, self._seed, self._net = (
            base,
            training,
            held_out,
            seed,
            net,
        )
        self._workers, self._tried = workers, tried
        self._whole = sum(map(len, training)) + len(base.terminator) * len(training)
        self.points: list[Point] = []

    def best(self, max_sample: int) -> Point:
        """The chosen candidate: contexts, net and order first, at one size, then the size."""
        sizes = sorted({min(size, max_sample, self._whole) for size in SIZES})
        first = max(size for size in sizes if size <= max(FIRST_SIZE, sizes[0]))
        every = [Candidate(each, first, shuffled) for each in Contexts for shuffled in (False, True)]
        if self._net is not None:
            every += [Candidate(Contexts.MANY, first, shuffled, net=True) for shuffled in (False, True)]
        chosen = self._cheapest(self._try(every))
        rest = [replace(chosen, size=size) for size in sizes if size != first]
        points = {point.candidate.size: point for point in self.points if point.candidate == chosen}
        points |= {point.candidate.size: point for point in self._try(rest)}
        best = points[sizes[0]]
        for size in sizes[1:]:
            if points[size].coded_bytes < SIZE_SHARE * best.coded_bytes:
                best = points[size]
        return best

    @staticmethod
    def _cheapest(points: Sequence[Point]) -> Candidate:
        """Of pairs that differ in the order alone, the quicker first: the better order of the quickest pair,
        unless one of a slower pair needs clearly less."""
        best = points[0]
        for pair in zip(points[::2], points[1::2], strict=True):
            found = min(pair, key=lambda point: point.coded_bytes)
            share = 1.0 if best in pair else CONTEXTS_SHARE
            if found.coded_bytes < share * best.coded_bytes:
                best = found
        return best.candidate

    def _try(self, candidates: Sequence[Candidate]) -> list[Point]:
        def one(candidate: Candidate, stop: Stop, progress: Progress) -> Point:
            model = _model(self._base, self._training, candidate, self._seed, self._net)
            begun = time.thread_time()
            with model.session():
                seconds = time.thread_time() - begun
            coded = RecordCodec(model).encode_batch(self._held_out, stop)
            return Point(candidate, len(model.sample), sum(map(len, coded)), seconds)

        with contextlib.closing(Pool(one, self._workers)) as pool:
            found = []
            for point in pool.imap(candidates):
                self._tried(point)
                found.append(point)
        self.points += found
        return found


def _summary(trained: Trained) -> dict[str, Any]:
    """What the model file tells of its training."""
    bits = {
        peer.name: None if found is None else round(found, 4)
        for peer, coded in trained.rivals
        for found in [trained.bits(coded)]
    }
    own = trained.bits(trained.coded_bytes)
    return {
        "validation_records": trained.validation_records,
        "validation_bytes": trained.validation_bytes,
        "validation_bits_per_byte": None if own is None else round(own, 4),
        "rivals_bits_per_byte": bits,
    }
