"""A dictionary whose values are kept as encoded records: over dbm, caches, a dict."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from typing import TypeVar

from chunker.records.codec import RecordCodec

Key = TypeVar("Key")


class RecordMapping(MutableMapping[Key, bytes]):
    """Reads and writes the values of another mapping, of bytes, through a codec; keys stay as they are.

    stored: a `dict`, what `dbm.open` gives, a `diskcache.Cache`: whatever has items.
    """

    def __init__(self, stored: MutableMapping[Key, bytes], codec: RecordCodec) -> None:
        self.stored, self.codec = stored, codec

    def __getitem__(self, key: Key) -> bytes:
        """Raises KeyError, CorruptArchive."""
        return self.codec.decode(self.stored[key])

    def __setitem__(self, key: Key, value: bytes) -> None:
        """Raises UsageError: the value is longer than the codec takes."""
        self.stored[key] = self.codec.encode(value)

    def __delitem__(self, key: Key) -> None:
        del self.stored[key]

    def __contains__(self, key: object) -> bool:
        return key in self.stored

    def __iter__(self) -> Iterator[Key]:
        # What dbm gives has keys, but on some systems no iterator.
        return iter(self.stored.keys())

    def __len__(self) -> int:
        return len(self.stored)
