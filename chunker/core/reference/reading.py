"""What stands before a byte, read in many ways: words, tokens, runs, lines, fields, keys.
FORMAT.md, "Reading".

A `Reading` is a function of the bytes so far; contexts.py makes the contexts from it. Numbers have 32 bits
and hashes are modulo 2**32, but where another width is told.
"""

from __future__ import annotations

from array import array

from chunker.core.reference.tables import COARSE, KIND
from chunker.core.tables import LOWER

MASK = 0xFFFFFFFF
MASK64 = 0xFFFFFFFFFFFFFFFF
FIELDS = 64  # of a line that are told apart; the last one stands for all that follow
DEPTH = 31  # of brackets that are told apart

_OPENING, _CLOSING = frozenset(b"([{<"), frozenset(b")]}>")
_DIGITS = frozenset(b"0123456789")
_TOKENS = frozenset(c for c in range(256) if LOWER[c]) | _DIGITS | frozenset(b"_")
_TABLE_ENDS = frozenset(b",;\t|")  # what ends a field of a table
_FIELD_ENDS = _TABLE_ENDS | frozenset(b' :"=()[]{}')  # what ends a field of anything


def mix(a: int, b: int) -> int:
    """A hash of two numbers."""
    h = (a * 0x2F0B4C47 + b * 0x3D4D51CB + 0x7F4A7C15) & MASK
    h = (h ^ h >> 15) * 0x1B873593 & MASK
    return h ^ h >> 13


def is_digit(c: int) -> bool:
    """Whether byte c is 0 .. 9."""
    return c in _DIGITS


class Fields:
    """The fields of this line, and where those of the line above begin.

    index, begin: of the field that is being read, its number in the line and its first position.
    hash, before: of its bytes so far, of the field before. order: it is equal so far to the one above (0),
    smaller (1), larger (2).
    """

    def __init__(self, ends: frozenset[int]) -> None:
        self._ends = ends
        self.index = self.begin = self.hash = self.before = self.order = 0
        self._start = [0] * FIELDS  # where the fields of this line begin,
        self._above = [0] * FIELDS  # and those of the line above

    @property
    def number(self) -> int:
        """The index, as far as fields are told apart."""
        return min(self.index, FIELDS - 1)

    def place_above(self, position: int) -> int:
        """Where the byte stands that is as far into the field above as `position` is into this one."""
        return self._above[self.number] + position - self.begin

    def add(self, c: int, above: int, position: int) -> None:
        """Byte c came where the field above has the byte `above`; the next one will stand at `position`."""
        if self.order == 0 and above != c:
            self.order = 1 if c < above else 2
        if c == ord("\n"):
            read = self._start[: self.index + 1]
            self._above = read + [position] * (
                FIELDS - len(read)
            )  # the line above ends there: it has no such field
            self._start = [position] + [0] * (FIELDS - 1)
            self._begin(position)
            self.index = 0
        elif c in self._ends:
            self._begin(position)
            self.index += 1
            if self.index < FIELDS:
                self._start[self.index] = position
        else:
            self.hash = mix(self.hash, c + 1)

    def _begin(self, position: int) -> None:
        self.before, self.hash, self.order, self.begin = self.hash, 0, 0, position


class Reading:
    """The state of reading."""

    def __init__(self) -> None:
        self.content = bytearray()  # all bytes so far
        self.last8 = 0  # the last eight bytes, the latest lowest; 64 bits
        self.kinds = 0  # kinds of the last 16 bytes, four bits each; 64 bits
        # hashes of the word that is being read, 0 if none is, and of the two before; its length
        self.word = self.word1 = self.word2 = self.word_length = 0
        # the same of identifiers, and of what stands behind the last one and before it
        self.token = self.token1 = self.token_length = 0
        self.gap = 0
        self.runs = 0  # the last 16 coarse bytes, a run of letters or digits as one; 128 bits
        self.in_run = 0  # 1: the last byte went on with one
        self.template = 0  # the last 16 bytes, every number as one digit; 128 bits
        self.digits = 0  # of the number that is being read
        self.line = self.line_above = 0  # where the lines begin
        self.line_hash = 0  # of the line so far
        self.line_template = self.line_start_template = (
            0  # hash of the line's template, of its first 24 bytes'
        )
        self.line_word = 0  # the line's first token
        self.indent = self.indent_above = 0
        self.key = 0  # the last name before a colon, an equals sign or a quotation mark
        self.depth = 0
        self._brackets = [(0, 0)] * (DEPTH + 1)  # the open ones, each with the key that it has
        self.table_fields, self.fields = Fields(_TABLE_ENDS), Fields(_FIELD_ENDS)
        # the last two bytes that followed the last two, the last three, this token
        self._after2, self._after3, self._after_token = (array("H", bytes(2 << 16)) for _ in range(3))
        self._place3 = self._place_token = 0

    @property
    def position(self) -> int:
        """How many bytes were read."""
        return len(self.content)

    @property
    def last4(self) -> int:
        """The last four bytes, the latest lowest."""
        return self.last8 & MASK

    @property
    def bracket(self) -> tuple[int, int]:
        """Hash of the innermost open bracket with the token before it;
        and the key that was the last one there."""
        return self._brackets[self.depth]

    @property
    def seen_after(self) -> tuple[int, int, int]:
        """The last two bytes that followed the last two bytes, the last three, this token; 0 for none."""
        return (
            self._after2[self.last8 & 65535],
            self._after3[self._place3],
            self._after_token[self._place_token],
        )

    def above(self, ahead: int) -> int:
        """The byte of the line above in this column, or `ahead` columns later; 0 if there is none."""
        return self._above(self.line_above + self.position - self.line + ahead)

    def field_above(self, fields: Fields, ahead: int) -> int:
        """The byte at this place of the field above, or `ahead` bytes later; 0 if there is none."""
        return self._above(fields.place_above(self.position) + ahead)

    def _above(self, at: int) -> int:
        return self.content[at] if at < self.line else 0

    def add(self, c: int) -> None:
        """Take in the next byte."""
        self._remember(c)
        above = self.field_above(self.table_fields, 0), self.field_above(self.fields, 0)
        self.content.append(c)
        self.last8 = (self.last8 << 8 | c) & MASK64
        self._add_to_words(c)
        self._add_to_runs(c)
        self._add_to_template(c)
        self.table_fields.add(c, above[0], self.position)
        self.fields.add(c, above[1], self.position)
        self._add_to_structure(c)
        self._add_to_line(c)
        self._place3 = mix(self.last8 & 0xFFFFFF, 5) & 65535
        self._place_token = mix(mix(self.token, self.gap), self.token1) & 65535

    def _remember(self, c: int) -> None:
        for seen, at in (
            (self._after2, self.last8 & 65535),
            (self._after3, self._place3),
            (self._after_token, self._place_token),
        ):
            seen[at] = (seen[at] << 8 | c) & 65535

    def _add_to_words(self, c: int) -> None:
        if LOWER[c]:
            self.word_length += 1
            self.word = mix(self.word, LOWER[c])
        else:
            self.word_length = 0
            if self.word:
                self.word2, self.word1, self.word = self.word1, self.word, 0
        if c in _TOKENS:
            self.token_length += 1
            self.token = mix(self.token, c + 1)
        else:
            self.token_length = 0
            if self.token:
                self.token1, self.token = self.token, 0
                self.gap = 0
            self.gap = mix(self.gap, c + 1)

    def _add_to_runs(self, c: int) -> None:
        coarse = COARSE[c]
        self.in_run = int(coarse in b"0aA" and coarse == self.runs & 255)
        if not self.in_run:
            self.runs = (self.runs << 8 | coarse) & (1 << 128) - 1
        self.kinds = (self.kinds << 4 | KIND[c]) & MASK64

    def _add_to_template(self, c: int) -> None:
        if c in _DIGITS and self.template & 255 == ord("0"):
            self.digits += 1
            return
        self.digits = int(c in _DIGITS)
        shown = ord("0") if c in _DIGITS else c
        self.template = (self.template << 8 | shown) & (1 << 128) - 1
        self.line_template = mix(self.line_template, shown)

    def _add_to_structure(self, c: int) -> None:
        """Keys, and the brackets that set them back as they close."""
        if c in b":=":
            self.key = self.token1 or self.word1
        if c == ord('"') and self.token1:
            self.key = mix(self.token1, 0)
        if c in _OPENING:
            self.depth = min(self.depth + 1, DEPTH)
            self._brackets[self.depth] = mix(self.token1, c), self.key
        elif c in _CLOSING and self.depth:
            _, self.key = self._brackets[self.depth]
            self.depth -= 1

    def _add_to_line(self, c: int) -> None:
        length = self.position - self.line
        if c in b" \t" and self.indent == length - 1:
            self.indent += 1
        if self.digits == 0 and length <= 24:
            self.line_start_template = self.line_template
        self.line_hash = mix(self.line_hash, c + 1)
        if c == ord("\n"):
            self.line_hash = 0
            self.indent_above, self.indent = self.indent, 0
            self.line_above, self.line = self.line, self.position
            self.line_template = self.line_start_template = self.line_word = 0
        elif not self.line_word and not self.token:
            self.line_word = self.token1
