"""Matches: the longest repetitions, and the bytes that they let expect. FORMAT.md, "Matches"."""

from __future__ import annotations

from chunker.core.reference.contexts import length_bucket
from chunker.core.reference.probabilities import RUN_LIMIT, Adaptive
from chunker.core.reference.reading import MASK
from chunker.core.reference.tables import bits_for, stretch

MIN_LENGTHS = (20, 9, 5)  # bytes that must repeat before a match is followed: one match of each
LONGEST_CHECKED = 48  # bytes that are compared where a match is found
LONGEST = 65535
MOST_MISSES = 6  # of the last eight bytes
LEAST_BITS, MOST_BITS = 10, 20  # of the hash of the bytes that must repeat


class Match:
    """One repetition that is followed, until it misses too often or a better one is found.

    at: where the byte stands that it expects. length: bytes before it that repeat. misses: of the last eight
    bytes that it foretold, one bit each. expected: the byte, -1 if there is none or another match stands at
    the same place.
    """

    def __init__(self, min_length: int, bits: int) -> None:
        self._min_length, self._shift = min_length, 32 - bits
        self._last: dict[int, int] = {}  # where the bytes with this hash ended the last time
        # by length, misses of the last three bytes, and whether this is the first bit: that it is right
        chances = [65536 * (bucket + 2) // (bucket + 3) for bucket in range(24)]
        self._map = Adaptive((chance for chance in chances for _ in range(16)), 2, RUN_LIMIT)
        self._index = -1
        self._expects = 0
        self.at = self.length = self.misses = 0
        self.expected = -1

    @property
    def follows(self) -> bool:
        """Whether there is anything that it follows."""
        return self.length > 0 or self.misses > 0

    @property
    def votes(self) -> bool:
        """Whether it takes part in this bit."""
        return self._index >= 0

    def inputs(self, partial: int, bit_number: int) -> tuple[int, int]:
        """Logarithm of odds of a 1 in 1/256 nat, and probability minus 1/2 in 1/1024;
        0 if it does not take part.

        partial: the bits of this byte so far behind a 1.
        """
        self._index = -1
        expected = self.expected | 256
        if self.expected < 0 or expected >> (8 - bit_number) != partial:
            return 0, 0
        self._index = (length_bucket(self.length) * 8 + (self.misses & 7)) * 2 + (bit_number > 0)
        self._expects = self.expects(bit_number)
        p = self._map[self._index]
        if self._expects:
            return stretch(p), (p - 32768) >> 6
        return -stretch(p), (32768 - p) >> 6

    def expects(self, bit_number: int) -> int:
        """The bit of the expected byte, 0 being the number of the highest."""
        return self.expected >> (7 - bit_number) & 1

    def learn(self, bit: int) -> None:
        """The bit that came: whether the match was right."""
        if self.votes:
            self._map.learn(self._index, int(bit == self._expects))

    def follow(self, content: bytearray, byte: int) -> None:
        """Compare the byte that comes next with the one that stood there; content: all bytes before it."""
        if not self.follows:
            return
        if content[self.at] == byte:
            self.length = min(self.length + 1, LONGEST)
            self.misses = self.misses << 1 & 255
        else:
            self.length = 0  # it is followed nevertheless: one byte may be all that differs
            self.misses = (self.misses << 1 | 1) & 255
        self.at += 1
        if self.misses.bit_count() > MOST_MISSES:
            self.length = self.misses = 0

    def find(self, content: bytearray) -> None:
        """Look where the last bytes stood before, and follow that instead if it is a longer repetition."""
        n = len(content)
        if n < self._min_length:
            return
        h = 0
        for byte in reversed(content[-self._min_length :]):
            h = (h + byte + 1) * 0x2F0B4C47 & MASK
        h = ((h ^ h >> 15) * 0x1B873593 & MASK) >> self._shift
        at = self._last.get(h, 0)
        self._last[h] = n
        if self.length >= self._min_length or not at:
            return
        length = 0
        while length < min(LONGEST_CHECKED, at) and content[at - 1 - length] == content[n - 1 - length]:
            length += 1
        if length < self._min_length or length <= self.length:
            return
        if at != self.at:
            self.misses = 0
        self.at, self.length = at, length


class Matches:
    """Three matches, of long repetitions first."""

    def __init__(self, n_bytes: int) -> None:
        """For a block of n_bytes."""
        bits = bits_for(n_bytes, LEAST_BITS, MOST_BITS)
        self.all = [Match(length, bits) for length in MIN_LENGTHS]

    @property
    def longest(self) -> tuple[int, int]:
        """Of the first match that expects a byte: the byte plus 1, and its length; 0, 0 if there is none."""
        for match in self.all:
            if match.expected >= 0:
                return match.expected + 1, match.length
        return 0, 0

    def inputs(self, partial: int, bit_number: int) -> list[int]:
        """For the mixture: the logarithms of odds of all matches, then their probabilities."""
        odds, linear = zip(*(match.inputs(partial, bit_number) for match in self.all), strict=True)
        return [*odds, *linear]

    def vote(self, bit_number: int) -> int:
        """What the matches that take part expect: 0 nothing, 1 a 0, 2 a 1, 3 both."""
        vote = 0
        for match in self.all:
            if match.votes:
                vote |= 1 << match.expects(bit_number)
        return vote

    def first(self) -> int:
        """Which match expects a byte, and how long it is, as one number below 3 * 13; 0 if there is none."""
        for number, match in enumerate(self.all):
            if match.expected >= 0:
                return length_bucket(match.length) // 2 + 1 + 13 * number
        return 0

    def learn(self, bit: int) -> None:
        """The bit that came."""
        for match in self.all:
            match.learn(bit)

    def follow(self, content: bytearray, byte: int) -> None:
        """The byte that came behind `content`."""
        for match in self.all:
            match.follow(content, byte)

    def find(self, content: bytearray) -> None:
        """Look for better matches; say what they expect. content: with the byte that came."""
        for match in self.all:
            match.find(content)
        taken: set[int] = set()
        for match in self.all:
            match.expected = content[match.at] if match.follows and match.at not in taken else -1
            if match.expected >= 0:
                taken.add(match.at)
