"""Level 0: predicts every bit from what followed its contexts before. FORMAT.md, "Level 0" and "The mixture".

    byte --> reading --> numbers of contexts --> slots: bit histories, last bytes -+
                  \\--> matches: bytes expected ------------------------------------+-> mixture -> maps -> p
    what the recurrent levels say of the bit (`Advice`) ---------------------------+

Before each byte `begin_byte`; then for each of its bits `gather`, `mix` (again if the advice changes) and
`learn`; `end_byte` behind the eighth.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import numpy as np

from chunker.core.interface import Contexts
from chunker.core.reference.contexts import ORDERS, SETS, hashes, length_bucket
from chunker.core.reference.histories import HISTORY_CHANCE, HISTORY_MIXED, NEXT_HISTORY
from chunker.core.reference.matches import MIN_LENGTHS, Matches
from chunker.core.reference.mixer import ONE, Mixer
from chunker.core.reference.probabilities import EVEN, RUN_LIMIT, STATE_LIMIT, Adaptive, Apm
from chunker.core.reference.reading import FIELDS, Reading, mix
from chunker.core.reference.slots import Slot, Slots
from chunker.core.reference.tables import KIND, STRETCH, bits_for, squash, stretch

NO_GUESS = 256
BIAS_INPUT = 256
NET_WEIGHT = int(0.35 * ONE)  # of what the recurrent levels say, to begin with
RUN_BUCKETS = 18
NO_RUN = -1
N_APMS = 5

BYTES_A_ROW = 32  # of a block, for each row of a set of weights: few rows learn faster
LEAST_SET_BITS, SET_BITS = 3, 12  # of a row's number
LEAST_PLACE_BITS, PLACE_BITS = 8, 16  # of a place's number

# Rows of each set of weights of the mixture, in the order of `Level0._selected`.
SET_SIZES = (24 * 8, 4096, 8 * 4 * 8, 256, 4096, 256 * 8, FIELDS * 4 * 8)
FINAL_SIZES = (256, len(MIN_LENGTHS) * 13 * 8)


@dataclass
class Advice:
    """What the recurrent levels say of the next bit; zeros while they sleep.

    stretched: logarithm of odds of a 1, in 1/256 nat. linear: probability of a 1 minus 1/2, in 1/1024.
    likeliest: the byte that they hold for the most probable.
    """

    awake: bool = False
    stretched: int = 0
    linear: int = 0
    likeliest: int = 0


def run_bucket(n: int) -> int:
    """The bucket of how often a byte came in a row: exact below 15; 0 is that of the byte before it."""
    return n if n < 15 else 15 if n < 32 else 16 if n < 64 else 17


class Follower:
    """One context: where it is in the slots, and what it makes of a bit.

    first, slot: of this byte's first half, of this half. number: of 32 bits, of this half.
    """

    def __init__(self) -> None:
        self.number = 0
        self.first = self.slot = Slot()
        self.last = self.before = 0  # the bytes that came last and before it, behind a 1; 0: none
        self.seen = False  # at this bit
        self._states = Adaptive(HISTORY_CHANCE, 6, STATE_LIMIT)  # chance of a 1, by bit history
        # chance that a run's byte is right, by its length, whether it is mixed, and the number of the bit
        chances = (65536 * (2 * n + 2) // (2 * n + 3) for n in range(RUN_BUCKETS))
        self._runs = Adaptive((chance for chance in chances for _ in range(16)), 6, RUN_LIMIT)
        self._state = 0
        self._run_start, self._run, self._expects = 0, NO_RUN, 0

    def begin(self, number: int, slot: Slot) -> None:
        """A byte begins: what its runs say is settled."""
        self.number, self.first, self.slot = number, slot, slot
        self.last = slot.run_byte | 256 if slot.run_count else 0
        self.before = slot.run_before | 256 if slot.run_count else 0
        self._run_start = (run_bucket(slot.run_count) * 2 + (slot.run_byte != slot.run_before)) * 8

    def inputs(self, node: int, partial: int, bit_number: int) -> tuple[int, int, int]:
        """Three inputs of the mixture, 0 where nothing was seen here.

        The logarithm of odds of the run; of the bit history, if it saw only one kind of bit; the history's
        probability minus 1/2, in 1/1024.
        """
        state = self._state = self.slot.histories[node]
        self.seen = state > 0
        p = self._states.entries[state] >> 16
        run = self._run_odds(partial, bit_number, HISTORY_MIXED[state])
        if not self.seen:
            return run, 0, 0
        certain = 0 if HISTORY_MIXED[state] else STRETCH[p >> 4]
        return run, certain, (p - 32768) >> 6

    def _run_odds(self, partial: int, bit_number: int, mixed: int) -> int:
        """What the byte seen last says if it agrees with the bits so far,
        else what the one before it says."""
        rest = 8 - bit_number
        if self.last >> rest == partial:
            byte, run = self.last, self._run_start + bit_number
        elif self.before >> rest == partial:
            byte, run = self.before, mixed * 8 + bit_number
        else:
            self._run = NO_RUN
            return -STRETCH[EVEN >> 4]
        self._run, self._expects = run, byte >> (rest - 1) & 1
        odds = STRETCH[self._runs.entries[run] >> 20]
        return odds if self._expects else -odds

    def learn(self, node: int, bit: int) -> None:
        """The bit that came."""
        self._states.learn(self._state, bit)
        self.slot.histories[node] = NEXT_HISTORY[bit][self._state]
        if self._run != NO_RUN:
            self._runs.learn(self._run, int(bit == self._expects))


class Level0:
    """The state of one block.

    content: the bytes so far. partial: the bits of this byte so far behind a 1. odds: logarithm of odds that
    the mixture gave last, in 1/256 nat, before the APMs.
    """

    def __init__(self, contexts: Contexts, n_bytes: int, with_stack: bool) -> None:
        """For a block of n_bytes; with_stack: recurrent levels may wake in it."""
        self._reading = Reading()
        self.content = self._reading.content
        self._contexts = SETS[contexts]
        n = len(self._contexts)
        self._orders = sum(context in ORDERS for context in self._contexts)  # they stand first
        self._slots = Slots(n_bytes, n)
        self._followers = [Follower() for _ in range(n)]
        self._matches = Matches(n_bytes)
        self._longest = self._longest_length = 0
        self._by_partial = Adaptive([EVEN] * 256, 0, STATE_LIMIT)
        self._by_last = Adaptive([EVEN] * 65536, 0, STATE_LIMIT)  # last byte, partial byte
        rows = 1 << bits_for(n_bytes // BYTES_A_ROW, LEAST_SET_BITS, SET_BITS)
        self._set_mask = rows - 1
        sizes = [min(size, rows) for size in SET_SIZES]
        self._mixer = Mixer(sizes, FINAL_SIZES, _initial_weights(n, with_stack))
        self._apms = [Apm() for _ in range(N_APMS)]
        self._place_mask = (
            1 << bits_for(8 * n_bytes, LEAST_PLACE_BITS, PLACE_BITS)
        ) - 1  # a bit has one place
        self._inputs = np.zeros(3 * n + 2 * len(MIN_LENGTHS) + 5, dtype=np.int32)
        self._seen_orders = 0  # how many of the last n bytes have been here before
        self.partial = 1
        self.odds = 0
        self.bit_number = 0
        self._node = 1

    def begin_byte(self) -> None:
        """Find the contexts of the next byte."""
        self._longest, self._longest_length = self._matches.longest
        numbers = hashes(self._reading, self._longest, self._longest_length, self._contexts)
        for follower, number in zip(self._followers, numbers, strict=True):
            follower.begin(number, self._slots.find(number))
        self.partial, self.bit_number, self._node = 1, 0, 1

    def guess(self) -> tuple[int, int]:
        """Before the first bit: the byte that is likeliest, NO_GUESS if there is none; how sure this is, 0 ..
        15."""
        if self._longest:
            return self._longest - 1, 8 + length_bucket(self._longest_length) // 3
        for i in reversed(range(self._orders)):
            if self._followers[i].last:
                return self._followers[i].last & 255, 1 + min(i, 6)
        return NO_GUESS, 0

    def gather(self) -> None:
        """The inputs of the mixture for the next bit, but for the advice."""
        if self.bit_number == 4:
            for follower in self._followers:
                follower.number = mix(follower.number, self.partial + 7)
                follower.slot = self._slots.find(follower.number)
            self._node = 1
        node, partial, bit_number = self._node, self.partial, self.bit_number
        said = [follower.inputs(node, partial, bit_number) for follower in self._followers]
        self._seen_orders = sum(follower.seen for follower in self._followers[: self._orders])
        self._inputs[:] = [
            *chain(*zip(*said, strict=True)),
            *self._matches.inputs(partial, bit_number),
            stretch(self._by_partial[partial]),
            stretch(self._by_last[self._last << 8 | partial]),
            0,
            0,
            BIAS_INPUT,
        ]

    def mix(self, advice: Advice) -> int:
        """The probability of a 1, 1 .. 65535 of 65536."""
        self._inputs[-3:-1] = advice.stretched, advice.linear
        final_selected = self.partial, self._matches.first() * 8 + self.bit_number
        self.odds = self._mixer(self._inputs, self._selected(advice), final_selected)
        places = self._places(advice)
        refined = sum(map_(place, self.odds) for map_, place in zip(self._apms, places, strict=True))
        p = (squash(self.odds) + 3 * (refined // N_APMS) + 2) >> 2
        return max(1, min(p, 65535))

    def _selected(self, advice: Advice) -> list[int]:
        """The row of each set of weights, below SET_SIZES."""
        r, bit_number = self._reading, self.bit_number
        net = ((advice.stretched + 2816) >> 8) + 1 if advice.awake else 0
        lengths = min(r.word_length, 7) | min(r.token_length, 7) << 3 | min(r.depth, 3) << 6
        selected = [
            net * 8 + bit_number,
            r.kinds,
            (self._seen_orders * 4 + self._matches.vote(bit_number)) * 8 + bit_number,
            r.last8 >> 16 & 255,
            self.partial << 4 | KIND[self._last],
            lengths * 8 + bit_number,
            (r.fields.number * 4 + r.fields.order) * 8 + bit_number,
        ]
        return [number & self._set_mask for number in selected]

    def _places(self, advice: Advice) -> list[int]:
        """Where each APM looks."""
        r, partial = self._reading, self.partial
        places = [
            partial | self._last << 8,
            mix(r.last8 & 0xFFFFFF, partial),
            partial | (self._longest & 255) << 8,
            mix(mix(r.line_template, r.digits), partial),
            partial | advice.likeliest << 8,
        ]
        return [place & self._place_mask for place in places]

    def learn(self, bit: int) -> None:
        """The bit that came."""
        self._mixer.learn(bit)
        for follower in self._followers:
            follower.learn(self._node, bit)
        self._matches.learn(bit)
        self._by_partial.learn(self.partial, bit)
        self._by_last.learn(self._last << 8 | self.partial, bit)
        for apm in self._apms:
            apm.learn(bit)
        self.partial = self.partial << 1 | bit
        self._node = self._node << 1 | bit
        self.bit_number += 1

    def end_byte(self) -> int:
        """Take in the byte whose bits are complete; returns it."""
        byte = self.partial & 255
        for follower in self._followers:
            follower.first.add_byte(byte)
        self._matches.follow(self.content, byte)
        self._reading.add(byte)
        self._matches.find(self.content)
        return byte

    @property
    def _last(self) -> int:
        """The last byte, 0 if there is none."""
        return self._reading.last8 & 255


def _initial_weights(contexts: int, with_stack: bool) -> list[int]:
    """Of all inputs, in the order of `Level0.gather`: runs and certain histories count, and matches,
    and the net."""
    runs_and_certain = [ONE // (contexts + 8)] * (2 * contexts)
    matches = [ONE // 4] * len(MIN_LENGTHS)
    net = NET_WEIGHT if with_stack else 0
    return [*runs_and_certain, *[0] * contexts, *matches, *[0] * len(matches), 0, 0, net, 0, 0]
