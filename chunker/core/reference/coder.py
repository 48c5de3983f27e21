"""The coder of bits: a carryless binary arithmetic coder of 32 bits. FORMAT.md, "The coder".

    low                  middle           high
     |------- 1 ------------|------ 0 ------|        middle = low + floor((high - low) * p / 2**16)

The part that belongs to the bit becomes the new interval. While the highest bytes of both ends are equal,
this byte goes to the payload. At the end the payload identifies a number within the last interval.
"""

from __future__ import annotations

from chunker.core.reference.reading import MASK


class Interval:
    """low .. high, both included, from 0 to a first `high`. shifted: how many bytes left it."""

    def __init__(self, high: int) -> None:
        self.low, self.high = 0, high
        self.shifted = 0

    def middle(self, p: int) -> int:
        """The last number of the part of a 1, whose probability is p / 65536 with 0 < p < 65536."""
        return self.low + ((self.high - self.low) * p >> 16)

    def narrow(self, middle: int, bit: int) -> list[int]:
        """Shrink the interval to the part of the bit; returns the bytes that are shifted out."""
        if bit:
            self.high = middle
        else:
            self.low = middle + 1
        out = []
        while self.low >> 24 == self.high >> 24:
            out.append(self.high >> 24)
            self.low, self.high = self.low << 8 & MASK, self.high << 8 & MASK | 255
        self.shifted += len(out)
        return out

    def last_bytes(self) -> bytes:
        """The fewest bytes, at least one, that are a number in the interval if zeros follow them."""
        for n_bytes in (1, 2, 3):
            rest = 32 - 8 * n_bytes
            if self.high >> rest << rest >= self.low:
                return (self.high >> rest).to_bytes(n_bytes, "big")
        return self.high.to_bytes(4, "big")


class Encoder:
    """payload: what is written so far. high: the end of the first interval."""

    def __init__(self, high: int = MASK) -> None:
        self.payload = bytearray()
        self._interval = Interval(high)

    def code(self, p: int, bit: int) -> int:
        """Write a bit to which the probability of a 1, p / 65536, was given; returns it."""
        self.payload.extend(self._interval.narrow(self._interval.middle(p), bit))
        return bit

    def finish(self) -> None:
        """Write the end of the payload."""
        self.payload.extend(self._interval.last_bytes())


class Decoder:
    """The bits of a payload. Behind its end it reads zeros. high: as the encoder had it."""

    def __init__(self, payload: bytes, high: int = MASK) -> None:
        self._payload, self._taken = payload, 0
        self._interval = Interval(high)
        self._code = 0
        for _ in range(4):
            self._take_byte()

    @property
    def beyond(self) -> int:
        """How many bytes were read behind the payload's end: at most 3 if the payload is valid."""
        return max(self._taken - len(self._payload), 0)

    @property
    def complete(self) -> bool:
        """Whether the payload is exactly as long as an encoder makes it for these bits."""
        return self._interval.shifted + len(self._interval.last_bytes()) == len(self._payload)

    def code(self, p: int, bit: int = 0) -> int:
        """Read the bit to which the probability of a 1, p / 65536, is given."""
        middle = self._interval.middle(p)
        bit = int(self._code <= middle)
        for _ in self._interval.narrow(middle, bit):
            self._take_byte()
        return bit

    def _take_byte(self) -> None:
        byte = self._payload[self._taken] if self._taken < len(self._payload) else 0
        self._code = (self._code << 8 | byte) & MASK
        self._taken += 1
