"""What stands before the next byte of each lane, seen in several ways, as numbers to look up memories by.

The ways are those of context mixing (Mahoney 2005, "Adaptive weighing of context models"; Salomon and Motta,
Handbook of Data Compression, 5.15): the last 1 to 8 bytes; the word and the word before it; the field of the
line, with what the line before has in its place; and the longest repetition. All lanes of a block read and
write one memory: at step t a lane knows what all lanes had before step t.

Integers only.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

UInts = NDArray[np.uint32]
Ints = NDArray[np.intp]

CONTEXTS = 12  # rows of `Contexts.hashes`
ORDERS = 6  # the first so many are the last 1, 2, 3, 4, 6, 8 bytes
MATCH_BYTES = 8  # a repetition is looked for by that many bytes
MATCH_LOOK = 16  # and taken if at least MATCH_BYTES of the last so many agree
MATCH_LENGTHS = 32  # classes of lengths
FIELDS = 64  # of a line; what comes later counts as the last

NEWLINE = 10
SEPARATORS = b'\n\t ,:;"'
# bytes above 127 count as letters
LETTERS = [*range(65, 91), *range(97, 123), *range(128, 256)]

_A, _B, _C, _D = 0x2F0B4C47, 0x3D4D51CB, 0x7F4A7C15, 0x1B873593
_SALT = 0x632BE5AB

# What the hashes are made of, one row a feature; the last 1, 2, 3, 4 bytes, the 2 and the 4 bytes before these, ..
_BYTE, _SHORT, _THREE, _LAST, _SHORT_BEFORE, _BEFORE = range(6)
_SHIFTS = np.array([[0], [0], [0], [0], [32], [32]], dtype=np.uint64)
_MASKS = np.array([[0xFF], [0xFFFF], [0xFFFFFF], [0xFFFFFFFF], [0xFFFF], [0xFFFFFFFF]], dtype=np.uint64)
# .. the word and the field so far; the word before; the field's number; 1 + the bytes above this one in the
# field and the line before, 0 for none; the column; 1
_WORD, _FIELD_HASH, _WORD_BEFORE, _FIELD, _ABOVE_FIELD, _ABOVE_LINE, _COLUMN, _ONE = range(6, 14)
_FEATURES = 14
_HASHES = (
    {_BYTE: 1},
    {_SHORT: 1},
    {_THREE: 1},
    {_LAST: 1},
    {_LAST: _A, _SHORT_BEFORE: _B},
    {_LAST: _A, _BEFORE: _B},
    {_WORD: _C, _BYTE: 1},
    {_WORD: _C, _WORD_BEFORE: _D},
    {_FIELD_HASH: _C, _FIELD: _D},
    {_ABOVE_FIELD: _C, _FIELD: _D, _BYTE: _B},
    {_ABOVE_LINE: _C, _BYTE: _B, _COLUMN: _D},
    {_FIELD_HASH: _C, _FIELD: _D, _WORD_BEFORE: _B},
)


def _hash_table() -> UInts:
    """(CONTEXTS + 1, _FEATURES): hashes = table @ features modulo 2**32; the last row is the repetition's."""
    table = np.zeros((CONTEXTS + 1, _FEATURES), dtype=np.uint64)
    for context, row in enumerate(_HASHES):
        for feature, factor in row.items():
            table[context, feature] = factor * _A & 0xFFFFFFFF
        table[context, _ONE] = context * _SALT & 0xFFFFFFFF
    table[CONTEXTS, _LAST], table[CONTEXTS, _BEFORE] = _A, _B
    return table.astype(np.uint32)


def _byte_table() -> UInts:
    """(4, 256): what a byte adds to the word's and the field's hash, and the factors that then apply (0: it ends)."""
    table = np.zeros((4, 256), dtype=np.uint32)
    for code in LETTERS:
        table[0, code], table[2, code] = (code | 32) + 1, _A
    table[1], table[3] = np.arange(1, 257), _A
    table[3, list(SEPARATORS)] = 0
    return table


_HASH_TABLE, _OF_BYTE = _hash_table(), _byte_table()
_LENGTHS: Ints = np.array([min(n, 15) + min(max(n - 15, 0) >> 2, 16) for n in range(80)], dtype=np.intp)


class Contexts:
    """hashes: (CONTEXTS, lanes) uint32, one number a context. previous: (lanes,) the byte before.

    matched: (lanes,) 256 + the byte that followed the repetition's first occurrence, 0 where there is none;
    length: (lanes,) the repetition's class of lengths, 0 where there is none.

    `update` is called at most `steps` times. Positions are step * lanes + lane.
    """

    def __init__(self, lanes: int, steps: int) -> None:
        self._lanes: Ints = np.arange(lanes)
        self._t = 0
        self._bytes = np.zeros((steps, lanes), dtype=np.uint8)
        self._flat = self._bytes.reshape(-1)
        self._past = np.zeros(lanes, dtype=np.uint64)
        self._features = np.zeros((_FEATURES, lanes), dtype=np.uint32)
        self._features[_ONE] = 1
        # the step at which the field and the line began; and where the places of the line before are
        self._begins, self._above = (np.zeros((2, lanes), dtype=np.intp) for _ in range(2))
        self._fields, self._fields_before = (np.zeros((lanes, FIELDS), dtype=np.intp) for _ in range(2))
        self._first_fields = self._lanes * FIELDS
        # one place for each position of a block of less than 2**20 bytes; later ones overwrite earlier ones
        self._match_bits = min(max((steps * lanes).bit_length(), 10), 20)
        self._places = np.full(1 << self._match_bits, -1, dtype=np.intp)
        # how many bytes agreed, 0 for no repetition; and the position of the byte that it predicts
        self._match = np.zeros((2, lanes), dtype=np.intp)
        self._agreed, self._at = self._match
        self._next = np.array([[1], [lanes]], dtype=np.intp)
        self._look_back = lanes * np.arange(MATCH_LOOK)
        self.previous, self.matched, self.length = (np.zeros(lanes, dtype=np.intp) for _ in range(3))
        self.hashes: UInts
        self._describe()

    def keep(self, lanes: int) -> None:
        """Drop all but the first `lanes` lanes; there is no update after it."""
        self.hashes, self.previous = self.hashes[:, :lanes], self.previous[:lanes]
        self.matched, self.length = self.matched[:lanes], self.length[:lanes]

    def update(self, symbols: NDArray[np.integer[Any]]) -> None:
        """Read the bytes (lanes,) that came."""
        features = self._features
        came = symbols.astype(np.uint64)
        self._bytes[self._t] = symbols
        self._t += 1
        self._past <<= np.uint64(8)
        self._past |= came
        features[: _BEFORE + 1] = self._past >> _SHIFTS & _MASKS
        of_byte = _OF_BYTE.take(symbols, 1)
        word, separated = features[_WORD], of_byte[3] == 0
        np.copyto(features[_WORD_BEFORE], word, where=(of_byte[2] == 0) & (word > 0))
        running = features[_WORD : _FIELD_HASH + 1]
        running += of_byte[:2]
        running *= of_byte[2:]
        self._update_fields(np.flatnonzero(separated), symbols)
        self._describe()
        self._update_match(came.astype(np.intp))

    def _update_fields(self, rows: Ints, symbols: NDArray[np.integer[Any]]) -> None:
        """rows: the lanes in which a field ended."""
        if not len(rows):
            return
        fields, now = self._features[_FIELD], self._t
        fields[rows] += np.uint32(1)
        self._begins[0, rows] = now
        self._fields[rows, np.minimum(fields[rows], np.uint32(FIELDS - 1))] = now
        rows = rows[symbols[rows] == NEWLINE]
        if len(rows):
            self._fields_before[rows] = self._fields[rows]
            self._fields[rows, 0] = now
            fields[rows] = 0
            self._above[1, rows] = self._begins[1, rows]
            self._begins[1, rows] = now

    def _describe(self) -> None:
        features, begins = self._features, self._begins
        column = np.minimum(features[_FIELD], np.uint32(FIELDS - 1))
        self._fields_before.take(self._first_fields + column, out=self._above[0], mode="clip")
        since = self._t - begins
        steps = self._above + since
        # the byte at that place in the line before; clipped where that line has no such place
        found = self._flat.take(steps * len(self._lanes) + self._lanes, mode="clip")
        inside = steps < begins[1]
        np.multiply(np.add(found, 1, dtype=np.uint32), inside, out=features[_ABOVE_FIELD : _ABOVE_LINE + 1])
        features[_COLUMN] = np.minimum(since[1], 255)
        hashes = _HASH_TABLE @ features
        self.hashes, self._match_hashes = hashes[:CONTEXTS], hashes[CONTEXTS]
        self.previous = features[_BYTE].astype(np.intp)

    def _update_match(self, came: Ints) -> None:
        good = self.matched == came + 256
        self._match += self._next
        self._match *= good
        if self._t >= MATCH_BYTES:
            self._look_for_match()
        self.matched = (self._flat.take(self._at).astype(np.intp) + 256) * (self._agreed > 0)
        self.length = _LENGTHS.take(self._agreed, mode="clip")

    def _look_for_match(self) -> None:
        lanes = len(self._lanes)
        place = (scattered(self._match_hashes) >> np.uint32(32 - self._match_bits)).astype(np.intp)
        candidates = self._places.take(place)
        positions = self._lanes + (self._t - 1) * lanes
        rows = np.flatnonzero((self._agreed == 0) & (candidates >= 0))
        if len(rows):
            then = candidates[rows, None] - self._look_back
            now = positions[rows, None] - self._look_back
            same = self._flat.take(then, mode="clip") == self._flat.take(now, mode="clip")
            same &= (then >= 0) & (now >= 0)
            agreed = np.where(same.all(1), MATCH_LOOK, same.argmin(1))
            found = agreed >= MATCH_BYTES
            self._agreed[rows] = agreed * found
            self._at[rows] = (candidates[rows] + lanes) * found
        self._places[place] = positions  # one after the other: the last lane stays


def scattered(hashes: UInts) -> UInts:
    """Every bit of the numbers in every bit of the result (Murmur3's finaliser)."""
    hashes = hashes ^ hashes >> np.uint32(16)
    hashes *= np.uint32(0x85EBCA6B)
    hashes ^= hashes >> np.uint32(13)
    hashes *= np.uint32(0xC2B2AE35)
    hashes ^= hashes >> np.uint32(16)
    return hashes
