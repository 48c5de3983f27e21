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

from chunker.core.interface import GATE_ALWAYS, MISFIT, RESERVED, Model, Progress, Settings, Stop, Trace
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

    def copy(self, coder: Coder) -> Block:
        """A block in the same state, with another coder."""
        shared = [self._coder, *(self.stack.weights if self.stack is not None else [])]
        block = deepcopy(self, {id(each): each for each in shared})
        block._coder = coder
        return block

    def code(self, byte: int = 0) -> Coded:
        """Code the next byte; a decoder ignores `byte`."""
        level0, stack = self._level0, self.stack
        advice, moved, woke = Advice(), 0, ASLEEP
        probabilities: list[int] = []
        level0.begin_byte()
        guess, confidence = level0.guess()
        for bit_number in range(8):
            level0.gather()
            if stack is not None and advice.awake:
                advice = stack.advise(level0.partial, bit_number)
            p = level0.mix(advice)
            if woke == ASLEEP and self._unsure(level0.odds):
                woke = bit_number
                if stack is not None:
                    moved = stack.wake(guess, confidence)
                    advice = stack.advise(level0.partial, bit_number)
                    p = level0.mix(advice)
            bit = self._coder.code(p, byte >> (7 - bit_number) & 1)
            probabilities.append(p)
            level0.learn(bit)
        byte = level0.end_byte()
        level_bits: list[float] = []
        if stack is not None:
            level_bits = stack.costs(byte) if advice.awake else [nan] * len(stack)
            if advice.awake:
                stack.saw(byte)
        return Coded(byte, moved, woke, guess, confidence, probabilities, level_bits)

    def _unsure(self, odds: int) -> bool:
        """Whether the recurrent levels wake: the contexts' logarithm of odds is nearer to 0 than the gate."""
        return abs(odds) < self._gate or self._gate == GATE_ALWAYS


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
        chances = (p if bit else 65536 - p for p, bit in self.coded)
        return sum((16 << LOG_BITS) - log2(chance) for chance in chances) / (1 << LOG_BITS)


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

    def read(self, content: bytes, *, detail: bool = False) -> Trace:
        """See Session.read."""
        if len(content) > self._left:
            raise ValueError(f"the session has room for {self._left:,} bytes")
        coded = []
        for position, byte in enumerate(content):
            look(position, self._stop, self._progress)
            coded.append(self._block.code(byte))
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
    ) -> bytes | None:
        """See Backend.encode."""
        encoder = Encoder()
        block = coding_block(settings, model, len(content), encoder)
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
    ) -> bytes:
        """See Backend.decode."""
        decoder = Decoder(payload)
        block = coding_block(settings, model, n_bytes, decoder)
        for position in range(n_bytes):
            look(position, stop, progress)
            block.code()
            if decoder.beyond > MAX_BEYOND:
                break
        if (decoder.beyond > MAX_BEYOND or not decoder.complete) and not partial:
            raise CorruptArchive(MISFIT)
        progress.value = n_bytes
        return bytes(block.content)

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


def coding_block(settings: Settings, model: Model | None, n_bytes: int, coder: Coder) -> Block:
    """A block to encode or decode. Raises ValueError if the settings need a model and there is none."""
    if settings.needs_model and model is None:
        raise ValueError("a gate above 0 needs a model")
    return Block(settings, model, n_bytes, coder)


def look(position: int, stop: Stop, progress: Progress) -> None:
    """Every LOOK_EVERY bytes: write the progress, and raise Stopped if `stop` is set."""
    if position % LOOK_EVERY == 0:
        progress.value = position
        stop.check()
