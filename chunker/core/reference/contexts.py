"""The contexts of level 0: numbers made from what stands before a byte. FORMAT.md, "Contexts".

Level 0 remembers, for each context and number, what followed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, auto

from chunker.core import interface
from chunker.core.reference.reading import MASK, Reading, is_digit, mix


class Context(IntEnum):
    """Names and numbers of all contexts; `hashes` has the formulas."""

    @staticmethod
    def _generate_next_value_(name: str, start: int, count: int, last_values: list[int]) -> int:
        return count  # from 0 on

    # the last n bytes
    O1 = auto()
    O2 = auto()
    O3 = auto()
    O4 = auto()
    O6 = auto()
    # words: the letters of this one so far, the words before it, and what stands between them
    WORD = auto()
    WORD2 = auto()
    WORD_SKIP = auto()
    WORD3 = auto()
    WORD_GAP = auto()
    # classes of bytes, a run of letters or digits counted once
    RUNS2 = auto()
    RUNS4 = auto()
    RUNS6 = auto()
    RUNS8 = auto()
    RUNS12 = auto()
    RUNS7_2 = auto()
    CLASSES = auto()
    # bytes with every number taken as one digit
    TEMPLATE8 = auto()
    TEMPLATE12 = auto()
    LINE_TEMPLATE = auto()
    # column and the line above
    COLUMN = auto()
    ABOVE = auto()
    WORD_COLUMN = auto()
    # fields: of tables (A) and of anything (B)
    FIELD_A = auto()
    FIELD_A_ABOVE = auto()
    FIELD_A_BEFORE = auto()
    FIELD_B = auto()
    NUMBER_ABOVE = auto()
    FIRST_FIELD = auto()
    # structure: keys, brackets, indents, the line so far, the place in the block
    KEY = auto()
    BRACKET = auto()
    INDENT = auto()
    LINE = auto()
    PAGE = auto()
    # what followed here before: the last bytes seen after these 2, 3 bytes, this token
    AFTER2 = auto()
    AFTER3 = auto()
    AFTER_WORD = auto()
    # the byte that the longest match expects
    MATCH = auto()
    MATCH3 = auto()


C = Context
ORDERS = frozenset({C.O1, C.O2, C.O3, C.O4, C.O6})  # the last n bytes
SETS: dict[interface.Contexts, tuple[Context, ...]] = {
    interface.Contexts.FEW: (C.O2, C.O3, C.O4, C.O6, C.WORD, C.RUNS4, C.LINE_TEMPLATE, C.FIELD_A_ABOVE),
    interface.Contexts.MANY: (
        *(C.O1, C.O2, C.O3, C.O4, C.O6, C.WORD, C.WORD2, C.WORD_SKIP),
        *(C.RUNS2, C.RUNS4, C.RUNS8, C.RUNS7_2, C.TEMPLATE8, C.LINE_TEMPLATE),
        *(C.COLUMN, C.ABOVE, C.WORD_COLUMN, C.FIELD_A, C.FIELD_A_ABOVE, C.FIELD_A_BEFORE, C.FIELD_B),
        *(C.NUMBER_ABOVE, C.FIRST_FIELD, C.KEY, C.INDENT, C.AFTER2, C.AFTER3, C.AFTER_WORD),
        *(C.MATCH, C.MATCH3, C.CLASSES, C.PAGE),
    ),
    interface.Contexts.ALL: tuple(Context),
}


def length_bucket(n: int) -> int:
    """The bucket of a match's length, 0 .. 23: exact below 16, then wider and wider."""
    if n < 16:
        return n
    if n < 32:
        return 16 + (n - 16) // 8
    if n < 64:
        return 18 + (n - 32) // 16
    return min(n.bit_length() + 13, 23)


def hashes(reading: Reading, expected: int, match_length: int, wanted: Sequence[Context]) -> list[int]:
    """The numbers of the wanted contexts, 32 bits each, in their order.

    expected: the byte that the longest match expects, plus 1; 0: there is none. match_length: its length.
    """
    h = [0] * len(Context)
    _bytes_and_words(reading, h)
    _shapes(reading, h)
    _places(reading, h)
    _structure(reading, h)
    _memories(reading, h, expected, length_bucket(match_length))
    return [mix(h[context], context * 0x632BE5AB + 1) for context in wanted]


# `mix` takes its arguments modulo 2**32, so the sums and shifts below need no masks.


def _bytes_and_words(r: Reading, h: list[int]) -> None:
    last4, before4, last = r.last4, r.last8 >> 32, r.last8 & 255
    h[C.O1] = last
    h[C.O2] = last4 & 0xFFFF
    h[C.O3] = last4 & 0xFFFFFF
    h[C.O4] = last4
    h[C.O6] = mix(last4, before4 & 0xFFFF)
    h[C.WORD] = mix(r.word, last)
    h[C.WORD2] = mix(h[C.WORD], r.word1)
    h[C.WORD_SKIP] = mix(h[C.WORD], r.word2)
    h[C.WORD3] = mix(h[C.WORD2], r.word2)
    h[C.WORD_GAP] = mix(r.word1, mix(r.gap, r.word))


def _shapes(r: Reading, h: list[int]) -> None:
    last, last2 = r.last8 & 0xFF, r.last8 & 0xFFFF
    runs4, runs_5_to_8, runs_9_to_12 = r.runs & MASK, r.runs >> 32 & MASK, r.runs >> 64 & MASK
    h[C.RUNS2] = mix(runs4 & 0xFFFF, r.in_run)
    h[C.RUNS4] = mix(runs4, r.in_run)
    h[C.RUNS6] = mix(runs4, (runs_5_to_8 & 0xFFFF) << 1 | r.in_run)
    h[C.RUNS8] = mix(mix(runs4, runs_5_to_8), r.in_run)
    h[C.RUNS12] = mix(h[C.RUNS8], runs_9_to_12)
    h[C.RUNS7_2] = mix(mix(runs4, runs_5_to_8 & 0xFFFFFF), last2 << 1 | r.in_run)
    shown4, shown_5_to_8, shown_9_to_12 = r.template & MASK, r.template >> 32 & MASK, r.template >> 64 & MASK
    h[C.TEMPLATE8] = mix(mix(shown4, shown_5_to_8), r.digits)
    h[C.TEMPLATE12] = mix(h[C.TEMPLATE8], shown_9_to_12)
    h[C.LINE_TEMPLATE] = mix(r.line_template, r.digits)
    h[C.CLASSES] = mix(r.kinds & 0xFFFFF, last)


def _places(r: Reading, h: list[int]) -> None:
    last, last_but_one = r.last8 & 255, r.last8 >> 8 & 255
    column, above, next_above = min(r.position - r.line, 255), r.above(0), r.above(1)
    h[C.COLUMN] = mix(column, above | last << 8)
    h[C.ABOVE] = mix(above | next_above << 8 | last << 16, last_but_one)
    h[C.WORD_COLUMN] = mix(r.word, mix(column, above))
    a, b = r.table_fields, r.fields
    above_a = r.field_above(a, 0) | r.field_above(a, 1) << 8
    above_b, next_above_b = r.field_above(b, 0), r.field_above(b, 1)
    h[C.FIELD_A] = mix(a.hash, a.number)
    h[C.FIELD_A_ABOVE] = mix(above_a | last << 16 | a.number << 24, a.order)
    h[C.FIELD_A_BEFORE] = mix(mix(a.hash, a.before), a.number)
    h[C.FIELD_B] = mix(b.hash, b.number)
    number = mix(mix(r.digits, b.number), b.order << 16 | above_b << 8 | next_above_b)
    h[C.NUMBER_ABOVE] = number + (last if is_digit(last) else 0)
    h[C.FIRST_FIELD] = mix(r.line_start_template, h[C.FIELD_B])
    h[C.PAGE] = mix(r.position >> 10, mix(r.token, last))


def _structure(r: Reading, h: list[int]) -> None:
    last = r.last8 & 255
    bracket, _ = r.bracket
    h[C.KEY] = mix(mix(r.key, r.fields.hash), last)
    h[C.BRACKET] = mix(mix(bracket, r.depth), r.token + last)
    h[C.INDENT] = mix(mix(r.indent << 8 | r.indent_above, r.line_word), r.token + last)
    h[C.LINE] = r.line_hash


def _memories(r: Reading, h: list[int], expected: int, length: int) -> None:
    last = r.last8 & 255
    after2, after3, after_token = r.seen_after
    h[C.AFTER2] = mix(after2, last)
    h[C.AFTER3] = mix(after3, last)
    h[C.AFTER_WORD] = mix(after_token, last)
    h[C.MATCH] = mix(expected, length)
    h[C.MATCH3] = mix(mix(expected, length >> 3), r.last8 & 0xFFFFFF)
