"""The codec of one block, in Python: chunker.core.backend.Backend. FORMAT.md, "Blocks" and "Waking".

Plain rather than quick: some hundred bytes a second.
"""

from __future__ import annotations

from array import array
from copy import deepcopy
from dataclasses import dataclass
from itertools import chain
from math import nan
from mmap import mmap
from typing import Protocol

from chunker.core.interface import (
    BEST,
    GATE_ALWAYS,
    MISFIT,
    RESERVED,
    Model,
    Progress,
    Settings,
    Stop,
    Trace,
    asleep_bytes,
    primed_capacity,
)
from chunker.core.reference.coder import MOST_OPEN, Bits, Decoder, Encoder, record_decoder, record_payload
from chunker.core.reference.level0 import Advice, Level0
from chunker.core.reference.stack import Stack
from chunker.core.reference.tables import LOG_BITS, log2
from chunker.errors import CorruptArchive

LOOK_EVERY = 64  # bytes between two looks at the stop flag
MAX_BEYOND = 3  # zeros that a decoder of a valid payload reads behind its end
ASLEEP = 8  # in place of the bit before which they woke, 0 .. 7: the recurrent levels slept


class Coder(Protocol):
    """Encoder, Decoder or NoCoder."""

    def code(self, p: int, bit: int) -> int:
        """Code a bit that is 1 with the probability p, 65536 to 1; returns it."""


class Block:
    """The state of one block, which codes its bytes one after the other.

    content: the bytes so far. model: None for level 0 alone.
    """

    def __init__(self, settings: Settings, model: Model | None, n_bytes: int, coder: Coder) -> None:
        self._gate, self._coder = settings.gate, coder
        with_stack = settings.needs_model and model is not None
        self._level0 = Level0(settings.contexts, n_bytes, with_stack)
        self.content = self._level0.content
        self.stack = Stack(model, self.content) if with_stack and model is not None else None
        # of the byte at hand; chunker.core.interface.Trace explains them:
        self._advice, self._moved, self._woke, self._may_wake = Advice(), 0, ASLEEP, True
        self._guess, self._confidence = 0, 0

    def copy(self, coder: Coder) -> Block:
        """A block in the same state, with another coder."""
        shared = [self._coder, *(self.stack.weights if self.stack is not None else [])]
        block = deepcopy(self, {id(each): each for each in shared})
        block._coder = coder
        return block

    def read(self, content: bytes, asleep: int, stop: Stop) -> None:
        """Read the next bytes, which are not coded; `asleep` as of Session.read. Raises Stopped."""
        coder, self._coder = self._coder, NoCoder()
        for position, byte in enumerate(content):
            stop.check()
            self.code(byte, asleep=position < asleep)
        self._coder = coder

    def code(self, byte: int = 0, *, asleep: bool = False) -> Coded:
        """Code the next byte; a decoder ignores `byte`. asleep: the recurrent levels do not wake."""
        probabilities: list[int] = []
        self.begin()
        self._may_wake = not asleep
        for bit_number in range(8):
            p = self.predict()
            probabilities.append(p)
            self.learn(self._coder.code(p, byte >> (7 - bit_number) & 1))
        byte = self._level0.end_byte()
        stack, awake = self.stack, self._advice.awake
        level_bits: list[float] = []
        if stack is not None:
            costs = stack.costs(byte) if awake else [nan] * len(stack)
            level_bits = [cost / (1 << LOG_BITS) for cost in costs]
            if awake:
                stack.saw(byte)
        told = self._moved, self._woke, self._guess, self._confidence
        return Coded(byte, *told, probabilities, level_bits)

    def begin(self) -> None:
        """A byte begins."""
        self._level0.begin_byte()
        self._advice, self._moved, self._woke = Advice(), 0, ASLEEP
        self._guess, self._confidence = self._level0.guess()

    def predict(self) -> int:
        """The probability of a 1 as the byte's next bit, 65536 to 1."""
        level0, stack = self._level0, self.stack
        bit_number = level0.bit_number
        level0.gather()
        if stack is not None and self._advice.awake:
            self._advice = stack.advise(level0.partial, bit_number)
        p = level0.mix(self._advice)
        if self._may_wake and self._woke == ASLEEP and self._unsure(level0.odds):
            self._woke = bit_number
            if stack is not None:
                self._moved = stack.wake(self._guess, self._confidence)
                self._advice = stack.advise(level0.partial, bit_number)
                p = level0.mix(self._advice)
        return p

    def learn(self, bit: int) -> None:
        """The bit came that was predicted."""
        self._level0.learn(bit)

    def _unsure(self, odds: int) -> bool:
        """Whether the recurrent levels wake: the contexts' logarithm of odds is nearer to 0 than the gate."""
        return abs(odds) < self._gate or self._gate == GATE_ALWAYS

    @property
    def partial(self) -> int:
        """The bits of this byte so far, behind a 1."""
        return self._level0.partial

    def source(self, byte: int, cost: int) -> int:
        """Where this byte came from, as `Trace.best_levels` has it."""
        if self.stack is None or not self._advice.awake:
            return 0
        costs = [cost, *self.stack.costs(byte)]
        return min(range(len(costs)), key=costs.__getitem__)  # the first of equals


def cost_of(p: int, bit: int) -> int:
    """What a bit costs, of which a 1 had the probability p, in 1/4096 bit."""
    return (16 << LOG_BITS) - log2(p if bit else 65536 - p)


@dataclass(frozen=True)
class Rank:
    """Of a byte: its rank, and the likeliest bytes in its place, each with cost in 1/4096 bit and source."""

    rank: int
    best: list[tuple[int, int, int]]


def rank_of(block: Block, cost: int) -> Rank:
    """What other bytes would have cost in place of one that costs as much. block: before it; this spoils it.

    Goes down the tree of bits, and passes by what costs more already than counts.
    """
    found: list[tuple[int, int, int]] = []  # cost, byte, source

    def counts(so_far: int) -> bool:
        return so_far < cost or len(found) < BEST or so_far <= sorted(found)[BEST - 1][0]

    def search(block: Block, so_far: int) -> None:
        if block.partial > 255:
            byte = block.partial & 255
            found.append((so_far, byte, block.source(byte, so_far)))
            return
        p = block.predict()
        likelier = int(p >= 32768)
        after = [(bit, so_far + cost_of(p, bit)) for bit in (likelier, 1 - likelier)]
        ways = [way for way in after if counts(way[1])]
        for way in ways:
            bit, so_far = way
            other = block if way is ways[-1] else block.copy(NoCoder())
            other.learn(bit)
            search(other, so_far)

    block.begin()
    search(block, 0)
    return Rank(1 + sum(each[0] < cost for each in found), sorted(found)[:BEST])


@dataclass(frozen=True)
class Coded:
    """A coded byte, with its fields of chunker.core.interface.Trace."""

    byte: int
    moved: int
    woke: int
    guess: int
    confidence: int
    probabilities: list[int]
    level_bits: list[float]

    @property
    def coded(self) -> Bits:
        """Its bits, the highest first, each behind the probability of a 1 that it had."""
        return [(p, self.byte >> (7 - k) & 1) for k, p in enumerate(self.probabilities)]

    @property
    def bits(self) -> float:
        """Its cost, -log2 of its probability."""
        return self.cost / (1 << LOG_BITS)

    @property
    def cost(self) -> int:
        """The same in 1/4096 bit."""
        return sum(cost_of(p, bit) for p, bit in self.coded)


class NoCoder:
    """Takes the place of a coder in a session, which reads without coding."""

    def code(self, p: int, bit: int) -> int:
        """The bit itself."""
        return bit


class PythonSession:
    """See chunker.core.interface.Session."""

    def __init__(
        self, settings: Settings, model: Model | None, capacity: int, stop: Stop, progress: Progress
    ) -> None:
        self._block = Block(settings, model, capacity, NoCoder())
        self._left, self._stop, self._progress = capacity, stop, progress

    def read(
        self, content: bytes, *, asleep: int = 0, detail: bool = False, rank_from: float | None = None
    ) -> Trace:
        """See Session.read."""
        if len(content) > self._left:
            raise ValueError(f"the session has room for {self._left:,} bytes")
        coded: list[Coded] = []
        ranks: list[Rank] = []
        for position, byte in enumerate(content):
            look(position, self._stop, self._progress)
            before = self._block.copy(NoCoder()) if rank_from is not None else self._block
            coded.append(self._block.code(byte, asleep=position < asleep))
            if rank_from is not None:
                dear = coded[-1].bits >= rank_from
                ranks.append(rank_of(before, coded[-1].cost) if dear else Rank(0, [(0, 0, 0)] * BEST))
        best = [each for rank in ranks for each in rank.best]
        self._left -= len(content)
        self._progress.value = len(content)
        return Trace(
            array("f", (each.bits for each in coded)),
            bytes(each.moved for each in coded),
            bytes(each.woke for each in coded),
            array("H", (each.guess for each in coded) if detail else ()),
            bytes(each.confidence for each in coded if detail),
            array("H", chain.from_iterable(each.probabilities for each in coded) if detail else ()),
            array("f", chain.from_iterable(each.level_bits for each in coded) if detail else ()),
            array("H", (each.rank for each in ranks)),
            bytes(byte for _, byte, _ in best),
            array("f", (cost / (1 << LOG_BITS) for cost, _, _ in best)),
            bytes(source for _, _, source in best),
        )

    def encode(self, record: bytes) -> bytes:
        """See Session.encode."""
        if len(record) > self._left:
            raise ValueError(f"the session has room for {self._left:,} bytes")
        block, bits = self._block.copy(NoCoder()), []
        for position, byte in enumerate(record):
            look(position, self._stop, self._progress)
            bits += block.code(byte).coded
        return record_payload(bits)

    def decode(self, payload: bytes, *, end: int | None, limit: int) -> bytes:
        """See Session.decode."""
        if payload[:1] >= bytes([RESERVED]):
            raise CorruptArchive(MISFIT)
        decoder = record_decoder(payload)
        block = self._block.copy(decoder)
        bits: Bits = []
        begin, most = len(block.content), min(limit, self._left)
        while (
            (len(block.content) - begin < limit)
            if end is None
            else (block.content[begin:][-1:] != bytes([end]))
        ):
            position = len(block.content) - begin
            if position == most:
                raise CorruptArchive(MISFIT)
            look(position, self._stop, self._progress)
            bits += block.code().coded
            if decoder.beyond > 4 + MOST_OPEN:
                raise CorruptArchive(MISFIT)
        if record_payload(bits) != payload:
            raise CorruptArchive(MISFIT)
        return bytes(block.content[begin:])

    def copy(self) -> PythonSession:
        """See Session.copy."""
        session = PythonSession.__new__(PythonSession)
        session._block = self._block.copy(NoCoder())
        session._left, session._stop, session._progress = self._left, self._stop, self._progress
        return session

    def save(self) -> bytearray:
        """See Session.save: the reference gives none."""
        return bytearray()


class PythonBackend:
    """See chunker.core.backend.Backend."""

    name = "python"

    def encode(
        self,
        content: bytes,
        settings: Settings,
        model: Model | None,
        limit_bytes: int,
        stop: Stop,
        progress: Progress,
        known: bytes = b"",
    ) -> bytes | None:
        """See Backend.encode."""
        encoder = Encoder()
        block = coding_block(settings, model, known, len(content), encoder, stop)
        for position, byte in enumerate(content):
            look(position, stop, progress)
            if len(encoder.payload) >= limit_bytes:
                return None
            block.code(byte)
        encoder.finish()
        progress.value = len(content)
        return bytes(encoder.payload) if len(encoder.payload) < limit_bytes else None

    def decode(
        self,
        payload: bytes,
        n_bytes: int,
        settings: Settings,
        model: Model | None,
        stop: Stop,
        progress: Progress,
        partial: bool = False,
        known: bytes = b"",
    ) -> bytes:
        """See Backend.decode."""
        decoder = Decoder(payload)
        block = coding_block(settings, model, known, n_bytes, decoder, stop)
        for position in range(n_bytes):
            look(position, stop, progress)
            block.code()
            if decoder.beyond > MAX_BEYOND:
                break
        if (decoder.beyond > MAX_BEYOND or not decoder.complete) and not partial:
            raise CorruptArchive(MISFIT)
        progress.value = n_bytes
        return bytes(block.content[len(known) :])

    def session(
        self, settings: Settings, model: Model | None, capacity: int, stop: Stop, progress: Progress
    ) -> PythonSession:
        """See Backend.session."""
        return PythonSession(settings, model, capacity, stop, progress)

    def restore(
        self,
        settings: Settings,
        model: Model | None,
        capacity: int,
        state: mmap,
        stop: Stop,
        progress: Progress,
    ) -> PythonSession | None:
        """See Backend.restore: the reference gives no states, and takes none."""
        return None


def coding_block(
    settings: Settings, model: Model | None, known: bytes, n_bytes: int, coder: Coder, stop: Stop
) -> Block:
    """A block of `n_bytes` to encode or decode, which has read what is known.

    Raises ValueError if the settings need a model and there is none.
    """
    if settings.needs_model and model is None:
        raise ValueError("a gate above 0 needs a model")
    block = Block(settings, model, primed_capacity(known, n_bytes), coder)
    block.read(known, asleep_bytes(known), stop)
    return block


def look(position: int, stop: Stop, progress: Progress) -> None:
    """Every LOOK_EVERY bytes: write the progress, and raise Stopped if `stop` is set."""
    if position % LOOK_EVERY == 0:
        progress.value = position
        stop.check()
