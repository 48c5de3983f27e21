"""Where level 0 finds what followed a context before: a hash table of bounded size. FORMAT.md, "Slots"."""

from __future__ import annotations

from chunker.core.reference.histories import HISTORY_COUNT
from chunker.core.reference.reading import MASK
from chunker.core.reference.tables import bits_for

SLOTS = 3  # of a bucket
LEAST_BITS, MOST_BITS = 8, 20  # of a bucket's number


class Slot:
    """What followed a context within one half of a byte.

    check: 16 bits of the context's hash, 0 if the slot is free. histories: states of the nodes 1 .. 15 of the
    binary tree of four bits; the children of n are 2 n and 2 n + 1. And, of the context of a byte's first
    half, the byte that came last, how often in a row, and the byte that came before it.
    """

    __slots__ = ("check", "histories", "run_before", "run_byte", "run_count")

    def __init__(self) -> None:
        self.histories = bytearray(16)
        self.clear(0)

    def __deepcopy__(self, memo: dict[int, object]) -> Slot:
        """As the default, but quick: a session that is copied has thousands."""
        slot = Slot.__new__(Slot)
        slot.check, slot.histories = self.check, self.histories[:]
        slot.run_count, slot.run_byte, slot.run_before = self.run_count, self.run_byte, self.run_before
        return slot

    def clear(self, check: int) -> None:
        """Forget everything: the slot is another context's now."""
        self.check = check
        self.histories[:] = bytes(16)
        self.run_count = self.run_byte = self.run_before = 0

    def add_byte(self, byte: int) -> None:
        """The whole byte that came."""
        if not self.run_count:
            self.run_byte = self.run_before = byte
            self.run_count = 1
        elif self.run_byte == byte:
            self.run_count = min(self.run_count + 1, 255)
        else:
            self.run_before, self.run_byte, self.run_count = self.run_byte, byte, 1


class Slots:
    """All slots: buckets of three, made as they are first looked into.

    Contexts may come to share a slot: one that finds no room clears a slot which another may hold in this
    very byte. Both go on with it then: their histories are one, and a byte is added to its run once for each
    of them.
    """

    def __init__(self, n_bytes: int, contexts: int) -> None:
        """For a block of n_bytes: about a bucket for four contexts that may come."""
        self._shift = 32 - bits_for((n_bytes * contexts // 4 + 64) & MASK, LEAST_BITS, MOST_BITS)
        self._buckets: dict[int, tuple[Slot, ...]] = {}

    def find(self, number: int) -> Slot:
        """The slot of a context; if it has none, the one that knows least of its bucket, cleared."""
        check = number & 65535 or 1
        index = (number * 0x9E3779B1 & MASK) >> self._shift
        bucket = self._buckets.get(index)
        if bucket is None:
            bucket = self._buckets[index] = tuple(Slot() for _ in range(SLOTS))
        for slot in bucket:
            if slot.check == check:
                return slot
        least = min(bucket, key=lambda slot: HISTORY_COUNT[slot.histories[1]])  # the first of equals
        least.clear(check)
        return least
