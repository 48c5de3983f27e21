"""Range coding of symbols under integer frequencies: a thin wrapper of constriction.

One coder carries a whole block. Each step codes one symbol of every lane, in lane order, in a single call.

The frequencies of a row are f_0 .. f_(V-1) with 1 <= f_i and sum(f_i) = TOTAL = 2**24. A row is handed over as
the floats f_i - 1: constriction gives every symbol one unit and shares out the remaining TOTAL - V in
proportion to the floats, which is exact because they add up to just that. `perfect=False` is essential: the
other setting is some eighty times slower and prints to standard output.
"""

from __future__ import annotations

import constriction
import numpy as np
import numpy.typing as npt

from chunker.coding.frames import damaged

TOTAL_BITS = 24
TOTAL = 1 << TOTAL_BITS

# The coder's interval is 64 bits wide and moves on by words of 32 bits.
_WORD_BYTES = 4
_STATE_BYTES = 8

Rows = npt.NDArray[np.float64]
"""(lanes, symbols): frequencies minus one; each row adds up to TOTAL - symbols."""


class Encoder:
    """Codes symbols into one payload.

    >>> encoder = Encoder()
    >>> encoder.encode(np.array([7]), np.full((1, 256), 2.0**16 - 1))
    >>> encoder.finish()
    b'\\x07'
    """

    def __init__(self) -> None:
        self._model = constriction.stream.model.Categorical(perfect=False)
        self._coder = constriction.stream.queue.RangeEncoder()

    def encode(self, symbols: npt.NDArray[np.integer], rows: Rows) -> None:
        """Append one symbol per lane: symbols (lanes,), rows (lanes, symbols)."""
        self._coder.encode(symbols.astype(np.int32), self._model, rows)

    @property
    def size_bytes(self) -> int:
        """What the payload takes so far; `finish` may come out up to 8 bytes shorter."""
        return int(self._coder.num_words()) * _WORD_BYTES

    def finish(self) -> bytes:
        """The shortest payload that decodes to what was encoded.

        Any number in the coder's last interval [low, high) decodes to the same symbols, and the decoder reads
        zeros after the end of the payload. So the payload is the number in there that ends in the most zero
        bytes, without them: at most one byte more than the information in the symbols, and often none.
        """
        words: npt.NDArray[np.uint32] = self._coder.get_compressed()
        position: int
        low_bits: int
        width: int
        position, (low_bits, width) = self._coder.pos()
        length = position * _WORD_BYTES + _STATE_BYTES
        number: int = int.from_bytes(words.astype(">u4").tobytes().ljust(length, b"\0"), "big")
        low = number - (number - low_bits) % (1 << 8 * _STATE_BYTES)
        high: int = low + width
        for dropped in range(_STATE_BYTES, -1, -1):
            shift = 8 * dropped
            rounded_up = -(-low >> shift)
            if rounded_up << shift < high:
                # Fewer than 8 dropped bytes may still leave zeros before them: the decoder supplies these, too.
                return rounded_up.to_bytes(length - dropped, "big").rstrip(b"\0")
        raise ArithmeticError("the range coder ended with an empty interval")


class Decoder:
    """Reads back what `Encoder` wrote, given the same rows."""

    def __init__(self, payload: bytes) -> None:
        self._model = constriction.stream.model.Categorical(perfect=False)
        padded = payload + bytes(-len(payload) % _WORD_BYTES)
        self._coder = constriction.stream.queue.RangeDecoder(
            np.frombuffer(padded, dtype=">u4").astype(np.uint32)
        )

    def decode(self, rows: Rows) -> npt.NDArray[np.int32]:
        """The next symbol of each lane, (lanes,), under rows (lanes, symbols).

        Raises CorruptArchive if no encoder can have written the payload.
        """
        try:
            symbols: npt.NDArray[np.int32] = self._coder.decode(self._model, rows)
        except AssertionError as exc:  # constriction's name for a number outside of the interval
            raise damaged("a payload does not decode") from exc
        return symbols
