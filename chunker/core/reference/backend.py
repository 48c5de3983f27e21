"""The codec of one block, in Python: chunker.core.backend.Backend. FORMAT.md, "Blocks" and "Waking".

Plain rather than quick: some hundred bytes a second.
"""

from __future__ import annotations

from array import array

from chunker.core.interface import GATE_ALWAYS, MISFIT, Model, Progress, Settings, Stop, Trace
from chunker.core.reference.coder import Decoder, Encoder
from chunker.core.reference.level0 import Advice, Level0
from chunker.core.reference.stack import Stack
from chunker.core.reference.tables import LOG_BITS, log2
from chunker.errors import CorruptArchive

LOOK_EVERY = 64  # bytes between two looks at the stop flag
MAX_BEYOND = 3  # bytes that a sound payload lacks at its end


class Block:
    """The state of one block, which codes its bytes one after the other.

    content: the bytes so far. After each byte: cost_bits, what it took, and moved, how many levels moved for it.
    """

    def __init__(
        self, settings: Settings, model: Model | None, n_bytes: int, coder: Encoder | Decoder
    ) -> None:
        self._gate, self._coder = settings.gate, coder
        self._level0 = Level0(settings.contexts, n_bytes, settings.needs_model)
        self.content = self._level0.content
        self._stack: Stack | None = None
        if settings.needs_model:
            if model is None:
                raise ValueError("a gate above 0 needs a model")
            self._stack = Stack(model, self.content)
        self.cost_bits = 0.0
        self.moved = 0

    def code(self, byte: int = 0) -> None:
        """Code the next byte; if this decodes, whatever `byte` is."""
        level0, stack = self._level0, self._stack
        advice, cost, self.moved = Advice(), 0, 0
        level0.begin_byte()
        guess, confidence = level0.guess()
        for bit_number in range(8):
            level0.gather()
            if stack is not None and advice.awake:
                advice = stack.advise(level0.partial, bit_number)
            p = level0.mix(advice)
            if stack is not None and not advice.awake and self._unsure(level0.odds):
                self.moved = stack.wake(guess, confidence)
                advice = stack.advise(level0.partial, bit_number)
                p = level0.mix(advice)
            bit = self._coder.code(p, byte >> (7 - bit_number) & 1)
            cost += (16 << LOG_BITS) - log2(p if bit else 65536 - p)
            level0.learn(bit)
        byte = level0.end_byte()
        if stack is not None and advice.awake:
            stack.saw(byte)
        self.cost_bits = cost / (1 << LOG_BITS)

    def _unsure(self, odds: int) -> bool:
        """Whether the recurrent levels wake: the contexts' logarithm of odds is nearer to 0 than the gate."""
        return abs(odds) < self._gate or self._gate == GATE_ALWAYS


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
        block = Block(settings, model, len(content), encoder)
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
    ) -> bytes:
        """See Backend.decode."""
        decoder = Decoder(payload)
        block = Block(settings, model, n_bytes, decoder)
        for position in range(n_bytes):
            look(position, stop, progress)
            block.code()
            if decoder.beyond > MAX_BEYOND:
                raise CorruptArchive(MISFIT)
        if not decoder.complete:
            raise CorruptArchive(MISFIT)
        progress.value = n_bytes
        return bytes(block.content)

    def trace(
        self, content: bytes, settings: Settings, model: Model | None, stop: Stop, progress: Progress
    ) -> Trace:
        """See Backend.trace."""
        encoder, bits, levels = Encoder(), array("f"), bytearray()
        block = Block(settings, model, len(content), encoder)
        for position, byte in enumerate(content):
            look(position, stop, progress)
            block.code(byte)
            bits.append(block.cost_bits)
            levels.append(block.moved)
        encoder.finish()
        progress.value = len(content)
        return Trace(len(encoder.payload), bits, bytes(levels))


def look(position: int, stop: Stop, progress: Progress) -> None:
    """Every few bytes tell how far this is; raises Stopped if somebody asked for it."""
    if position % LOOK_EVERY == 0:
        progress.value = position
        stop.check()
