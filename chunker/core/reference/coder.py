"""The coder of bits: a carryless binary arithmetic coder of 32 bits. FORMAT.md, "The coder".

    low                  middle           high
     |------- 1 ------------|------ 0 ------|        middle = low + floor((high - low) * p / 2**16)

The part that belongs to the bit becomes the new interval. While the highest bytes of both ends are equal,
this byte goes to the payload. At the end the payload identifies a number within the last interval. A record's
payload is shorter still: FORMAT.md, "Records".
"""

from __future__ import annotations

from chunker.core.interface import RESERVED
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
    """payload: what is written so far."""

    def __init__(self) -> None:
        self.payload = bytearray()
        self._interval = Interval(MASK)

    def code(self, p: int, bit: int) -> int:
        """Write a bit to which the probability of a 1, p / 65536, was given; returns it."""
        self.payload.extend(self._interval.narrow(self._interval.middle(p), bit))
        return bit

    def finish(self) -> None:
        """Write the end of the payload."""
        self.payload.extend(self._interval.last_bytes())


class Decoder:
    """The bits of a payload. high: as the encoder had it. open: what may stand behind the payload's end, 0 ..
    open in each byte: of a bit that the payload leaves open, the value with more numbers is taken."""

    def __init__(self, payload: bytes, high: int = MASK, open: int = 0) -> None:
        self._payload, self._taken, self._open = payload, 0, open
        self._interval = Interval(high)
        self._first = self._last = 0  # the payload's number is one of these
        for _ in range(4):
            self._take_byte()
        self._last = min(self._last, high)

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
        bit = int(self._last <= middle)
        if self._first <= middle < self._last:
            bit = int(middle - self._first + 1 >= self._last - middle)
            if bit:
                self._last = middle
            else:
                self._first = middle + 1
        for _ in self._interval.narrow(middle, bit):
            self._take_byte()
        return bit

    def _take_byte(self) -> None:
        least, most = 0, self._open
        if self._taken < len(self._payload):
            least = most = self._payload[self._taken]
        self._first = (self._first << 8 | least) & MASK
        self._last = (self._last << 8 | most) & MASK
        self._taken += 1


RECORD_HIGH = (RESERVED << 24) - 1  # the end of the first interval of a record's coder
MOST_OPEN = 3  # of the bytes that left the interval, so many may be left away

Bits = list[tuple[int, int]]  # of each: the probability of a 1, and the bit


def record_payload(coded: Bits) -> bytes:
    """The payload of a record: a number in its interval, in as few bytes as give it back."""
    interval, shifted = Interval(RECORD_HIGH), b""
    for p, bit in coded:
        shifted += bytes(interval.narrow(interval.middle(p), bit))
    low, high = (shifted + end.to_bytes(4, "big") for end in (interval.low, interval.high))
    payload = low
    for n_bytes in range(len(low) - 1, max(len(shifted) - MOST_OPEN, 1) - 1, -1):
        first, last = (int.from_bytes(end[:n_bytes], "big") for end in (low, high))
        numbers = range(first + (last - first > 1), last + 1)  # one in between surely gives it
        found = next((each for each in numbers if _gives(each.to_bytes(n_bytes, "big"), coded)), None)
        if found is None:
            break
        payload = found.to_bytes(n_bytes, "big")
    return payload


def record_decoder(payload: bytes) -> Decoder:
    """A decoder of what `record_payload` gave."""
    return Decoder(payload, RECORD_HIGH, 255)


def _gives(payload: bytes, coded: Bits) -> bool:
    decoder = record_decoder(payload)
    return all(decoder.code(p) == bit for p, bit in coded)
