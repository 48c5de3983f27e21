"""Where one record ends and the next begins in a file."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import BinaryIO

from chunker.errors import UsageError

CHUNK_BYTES = 1 << 20
MAX_SEPARATOR_BYTES = 64
_OUTSIDE_OF_STRINGS = re.compile(r'("(?:[^"\\]|\\.)*")|\s+')


@dataclass(frozen=True)
class Rule:
    """How a file is cut into records.

    name: as a user writes it: "lines"; "json", of JSON documents one a line, or of one array whose elements
    are the records; "json:KEY", of which only the string at KEY counts; or a separator, with escapes as in
    Python (``\\n\\n``, ``\\x1e``).
    separator: the bytes between two records; a newline for JSON. key: of "json:KEY".

    Separators are not part of the records. What stands behind the last one is a record if it is not empty.
    """

    name: str
    separator: bytes
    key: str | None = None

    @property
    def is_json(self) -> bool:
        """Whether the records are JSON documents or parts of them."""
        return self.name == "json" or self.key is not None


LINES = Rule("lines", b"\n")
JSON = Rule("json", b"\n")


def rule_of(name: str) -> Rule:
    """The rule of that name.

    Raises
    ------
    UsageError: there is none.
    """
    if name in ("lines", "json"):
        return LINES if name == "lines" else JSON
    if name.startswith("json:"):
        if name == "json:":
            raise UsageError("json: lacks a key; write json:KEY, or json for whole documents")
        return Rule(name, b"\n", name.removeprefix("json:"))
    try:
        separator, _ = codecs.escape_decode(name.encode())
    except ValueError as error:
        raise UsageError(
            f"the separator {name!r} has an escape that Python does not know ({error})"
        ) from None
    if not 1 <= len(separator) <= MAX_SEPARATOR_BYTES:
        raise UsageError(
            f"a separator has 1 to {MAX_SEPARATOR_BYTES} bytes; write lines, json or \\n\\n, say"
        )
    return Rule(name, bytes(separator))


def likely_rule(name: str, data: bytes) -> Rule:
    """The rule by which a file of that name and beginning is probably meant: JSON by its suffix, paragraphs
    where there are blank lines, else lines."""
    if name.endswith((".json", ".jsonl", ".ndjson")):
        return JSON
    return rule_of(r"\n\n") if data.count(b"\n\n") > 1 else LINES


def split(data: bytes, rule: Rule) -> list[bytes]:
    """The records of a file.

    Raises
    ------
    UsageError: of JSON, what is none, or has no string at the key.
    """
    if not rule.is_json:
        return _parted(data, rule.separator)
    records = _elements(data) if data.lstrip()[:1] == b"[" else _parted(data, b"\n")
    if rule.key is None:
        _check_json(records)
        return records
    return [_string_at(rule.key, record, number) for number, record in enumerate(records) if record.strip()]


def _parted(data: bytes, separator: bytes) -> list[bytes]:
    records = data.split(separator)
    if not records[-1]:
        records.pop()
    return records


class Records:
    """The records of an open file, one after the other: what `split` gives of its whole content, without
    holding it, unless that is a JSON array or only parts of documents count.

    ended: after the last one, whether a separator stood behind it.
    """

    def __init__(self, file: BinaryIO, rule: Rule) -> None:
        self._file, self._rule = file, rule
        self.ended = True

    def __iter__(self) -> Iterator[bytes]:
        """Raises what `split` raises."""
        file, rule = self._file, self._rule
        first = file.read(CHUNK_BYTES)
        if rule.is_json and (rule.key is not None or first.lstrip()[:1] == b"["):
            yield from split(first + file.read(), rule)
            return
        number, rest = 0, b""
        for chunk in _chunks(first, file):
            *records, rest = (rest + chunk).split(rule.separator)
            if rule.is_json:
                _check_json(records, number)
            number += len(records)
            yield from records
        if rest:
            self.ended = False
            if rule.is_json:
                _check_json([rest], number)
            yield rest


def _chunks(first: bytes, file: BinaryIO) -> Iterator[bytes]:
    chunk = first
    while chunk:
        yield chunk
        chunk = file.read(CHUNK_BYTES)


def _elements(data: bytes) -> list[bytes]:
    """The elements of a JSON array, as they are written, without the spaces outside of strings: no number
    changes its spelling and no object its order."""
    try:
        text = data.decode()
        json.loads(text)
    except ValueError as error:
        raise UsageError(
            f"there is no JSON array ({error}); check the file, or use --records lines"
        ) from None
    decoder = json.JSONDecoder()
    text = _OUTSIDE_OF_STRINGS.sub(lambda match: match[1] or "", text)
    records, at = [], 1
    while text[at] != "]":
        _, end = decoder.raw_decode(text, at)
        records.append(text[at:end].encode())
        at = end + (text[end] == ",")
    return records


def _check_json(records: Iterable[bytes], first: int = 0) -> None:
    for number, record in enumerate(records, first):
        if record.strip():
            _document(record, number)


def _document(record: bytes, number: int) -> object:
    try:
        return json.loads(record)
    except ValueError as error:
        raise UsageError(
            f"record {number} is no JSON document ({error}); write one document a line, or one array"
        ) from None


def _string_at(key: str, record: bytes, number: int) -> bytes:
    document = _document(record, number)
    text = document.get(key) if isinstance(document, dict) else None
    if not isinstance(text, str):
        raise UsageError(f"record {number} has no string at {key!r}; name another key, or use --records json")
    return text.encode("utf-8", "surrogatepass")
