"""Probabilities that adapt: what level 0 learns from the bits that came.
FORMAT.md, "Constants" and "Adaptive probability maps"."""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from chunker.core.reference.tables import NAT, RECIPROCAL, clamp, squash

STATE_LIMIT = 255  # such a probability averages over so many bits at most: those of bit histories, of bytes,
RUN_LIMIT = 1023  # those of runs and matches
EVEN = 32768  # 1/2

STEP = NAT // 2  # between two points of an APM
POINTS = [squash(i * STEP) for i in range(-16, 17)]  # its points to begin with: as the mixture says
RATE_BITS = 4

_COUNT_BITS = 10
_CERTAIN = (1 << 22) - 1


class Adaptive:
    """A list of probabilities of 22 bits, each with the number n of bits that it was learnt from.

        p += (bit - p) / (n + 1.5);  n += 1, up to `limit`

    entries: p << 10 | n.
    """

    def __init__(self, chances: Iterable[int], n: int, limit: int) -> None:
        """chances: of 16 bits, to begin with, each as if it were learnt from n bits."""
        self.entries = array("I", (chance << 16 | n for chance in chances))
        self._limit = limit

    def __getitem__(self, index: int) -> int:
        """The probability, 16 bits."""
        return self.entries[index] >> 16

    def learn(self, index: int, bit: int) -> None:
        """Come nearer to what happened."""
        entry = self.entries[index]
        n, p = entry & (1 << _COUNT_BITS) - 1, entry >> _COUNT_BITS
        p += (bit * _CERTAIN - p) * RECIPROCAL[n] >> 16
        self.entries[index] = p << _COUNT_BITS | n + (n < self._limit)


class Apm:
    """An adaptive probability map, APM (secondary symbol estimation, Mahoney 2005, section 4.3).

    For each place, a number of 16 bits made from a context, it learns what probabilities of the mixture
    turned out to be: 33 points at logarithms of odds from -8 to 8 nats, straight lines between them.
    """

    def __init__(self) -> None:
        self._places: dict[int, list[int]] = {}
        self._points: list[int] = []
        self._nearest = 0

    def __call__(self, place: int, odds: int) -> int:
        """The probability of a 1, 16 bits, where the mixture's logarithm of odds is `odds`, in 1/256 nat."""
        low, beyond = divmod(clamp(odds, 16 * STEP - 1) + 16 * STEP, STEP)
        self._points = self._places.setdefault(place, POINTS.copy())
        self._nearest = low + (beyond >= STEP // 2)
        return (self._points[low] * (STEP - beyond) + self._points[low + 1] * beyond) // STEP

    def learn(self, bit: int) -> None:
        """What came where it was asked last: the nearer of the two points moves a 16th of the way."""
        p = self._points[self._nearest]
        self._points[self._nearest] = p + ((bit * 65535 - p) >> RATE_BITS)
