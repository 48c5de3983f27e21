"""Training as coding works: level 1 steps only where it wakes, and is scored through the mixture.

At a byte before whose bit k level 0 became unsure, the levels predict the 256 byte values; for each bit j >=
k this gives the odds of the values that agree with the bits before it. The loss is the code length of these
bits, in nats,

    sum over j >= k of -log p_j(bit_j),    p_j = sigmoid(a stretch(q_j) + b stretch(r_j))

with r_j the levels' probability, q_j level 0's as it was foretold (chunker.learning.foretold), and a and b
learnt for each j and each degree of level 0's certainty. The codec's mixture has more inputs and goes on
learning; these two stand for it. So the levels learn what the contexts do not know, and windows count a
level's own steps: in the same steps they read several times as much text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from chunker.config import NO_GUESS
from chunker.core.interface import GATE_ALWAYS
from chunker.errors import CheckpointError, CorpusError
from chunker.learning.foretold import Foretold
from chunker.learning.level import LevelState
from chunker.learning.ngrams import ngram_code, rows_of_latest
from chunker.learning.observation import surprise_bits
from chunker.learning.packing import count_before, pack, pick
from chunker.learning.recurrence import recur
from chunker.learning.stack import Stack, StackState

CERTAINTIES = 12  # degrees of |stretch(p)|, one a nat


@dataclass(frozen=True)
class Window:
    """T woken steps of B rows. Integers (T, B) unless said otherwise.

    latest: (longest, T, B), the bytes before the one that is predicted, each plus one, the last one first; 0
    where the block had not begun. words: keys of the words so far (chunker.core.ngrams), or 0.
    times: bytes since the row's last step. guesses, confidences: of level 0. targets: the byte that came.
    woke: the first bit that the levels are asked for. odds: (T, B, 8) float32, of a 1 before each bit as
    level 0 had them, in nats.
    counted: (T, B) bool, steps that are any. cold: (B,) bool, rows that begin a block.
    """

    latest: Tensor
    words: Tensor
    times: Tensor
    guesses: Tensor
    confidences: Tensor
    targets: Tensor
    woke: Tensor
    odds: Tensor
    counted: Tensor
    cold: Tensor

    @property
    def symbols(self) -> Tensor:
        """The byte before the one that is predicted; there is one at every step."""
        return (self.latest[0] - 1).clamp_min(0)

    def of(self, rows: slice) -> Window:
        """Some of the rows."""
        parts: dict[str, Any] = {
            name: t[..., rows, :] if name == "odds" else t[..., rows] for name, t in vars(self).items()
        }
        return Window(**parts)

    def to(self, device: torch.device) -> Window:
        parts: dict[str, Any] = {name: tensor.to(device) for name, tensor in vars(self).items()}
        return Window(**parts)


class Windows:
    """Endless windows from B rows, each of which reads block after block of texts, drawn by weight.

    A block is drawn with a probability in proportion to its text's weight and to its steps. longest: how many
    of the latest bytes to tell. words: whether to tell keys of words. gate: at which level 1 wakes, at most
    the one that the texts were foretold with.
    """

    def __init__(
        self,
        texts: Sequence[Foretold],
        weights: Sequence[float],
        longest: int,
        batch: int,
        window: int,
        seed: int = 0,
        gate: int = GATE_ALWAYS,
        words: bool = False,
    ) -> None:
        self.gate = gate
        self._words = [text.words() for text in texts] if words else None
        self._texts, self._weights, self._longest = list(texts), list(weights), longest
        self.batch, self.window = batch, window
        self.bytes = sum(len(text.text) for text in texts)
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._blocks = [(t, b) for t, text in enumerate(texts) for b in range(len(text.blocks))]
        share = np.array([weights[t] * self._steps(t, b) for t, b in self._blocks], dtype=np.float64)
        if not share.sum():
            raise CorpusError("level 0 is never unsure of this text; raise the gate, or give more text")
        self._share = np.cumsum(share / share.sum())
        self._rows = [_Row() for _ in range(batch)]

    def _steps(self, text: int, block: int) -> int:
        where = self._texts[text].block(block)[1]
        return int(where.stop) - int(where.start)

    def _draw(self) -> _Row:
        index = min(int(np.searchsorted(self._share, self._rng.random())), len(self._blocks) - 1)
        text, block = self._blocks[index]
        where = self._texts[text].block(block)[1]
        return _Row(text, block, where.start, where.stop, self._texts[text].block(block)[0].start)

    def _read(self, row: _Row) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.uint8]]:
        """Which are a row's next steps, `window` of them, or as many as its block has left, and the first bit
        that the levels are asked for in each."""
        steps, wanted = self._texts[row.text].steps, self.window
        which, woke = [], []
        while wanted and row.next < row.end:
            more = steps[row.next : min(row.end, row.next + 2 * wanted)]
            unsure = first_unsure(more, self.gate)
            (kept,) = np.nonzero(unsure < 8)
            which.append(row.next + kept[:wanted])
            woke.append(unsure[kept[:wanted]])
            row.next += int(kept[wanted - 1]) + 1 if len(kept) >= wanted else len(more)
            wanted -= len(which[-1])
        return np.concatenate(which), np.concatenate(woke)

    def next(self) -> Window:
        """The next window."""
        T, B = self.window, self.batch
        shape = (B, T)
        targets, woke = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        guesses, confidences = np.full(shape, NO_GUESS, np.int64), np.zeros(shape, np.uint8)
        words = np.zeros(shape, np.uint32)
        times, counted = np.ones(shape, np.int64), np.zeros(shape, bool)
        probabilities = np.full((*shape, 8), 32768, np.uint16)
        latest = np.zeros((self._longest, *shape), np.int64)
        cold = np.zeros(B, bool)
        for b in range(B):
            while self._rows[b].next == self._rows[b].end:
                self._rows[b] = self._draw()
                cold[b] = True
            row = self._rows[b]
            found, (which, unsure) = self._texts[row.text], self._read(row)
            steps = found.steps[which]
            n, bytes_ = len(steps), found.block(row.block)[0]
            at = steps["position"].astype(np.int64)
            times[b, :n] = np.diff(at, prepend=row.before)
            row.before = int(at[-1]) if n else row.before
            targets[b, :n] = found.text[at]
            woke[b, :n], confidences[b, :n] = unsure, steps["confidence"]
            guesses[b, :n] = np.where(steps["confidence"] > 0, steps["guess"], NO_GUESS)
            probabilities[b, :n], counted[b, :n] = steps["probability"], True
            if self._words:
                words[b, :n] = self._words[row.text][which]
            for k in range(1, self._longest + 1):
                latest[k - 1, b, :n] = np.where(
                    at - k >= bytes_.start, found.text[np.maximum(at - k, 0)].astype(np.int64) + 1, 0
                )
        p = probabilities.astype(np.float32)
        odds = np.log(p) - np.log(65536 - p)

        def turned(array: npt.NDArray[Any]) -> Tensor:
            return torch.from_numpy(array.T.astype(np.int64))

        return Window(
            latest=torch.from_numpy(latest.transpose(0, 2, 1).copy()),
            words=turned(words),
            times=turned(times),
            guesses=turned(guesses),
            confidences=turned(confidences),
            targets=turned(targets),
            woke=turned(woke),
            odds=torch.from_numpy(odds.transpose(1, 0, 2).copy()),
            counted=torch.from_numpy(counted.T.copy()),
            cold=torch.from_numpy(cold),
        )

    def position(self) -> dict[str, Any]:
        """Everything that the next windows depend on besides the texts, as JSON values."""
        return {
            "corpus": [[t.name, w, t.crc] for t, w in zip(self._texts, self._weights, strict=True)],
            "shape": [self.batch, self.window],
            "rows": [list(astuple(row)) for row in self._rows],
            "random": self._rng.bit_generator.state,
        }

    def seek(self, position: Mapping[str, Any]) -> None:
        """Go on where `position()` was taken. Raises CheckpointError if texts, batch or window differ."""
        here = self.position()
        if here["corpus"] != position["corpus"]:
            raise CheckpointError(
                "the corpus is not the one of the checkpoint; give the same paths or --force"
            )
        if here["shape"] != position["shape"]:
            raise CheckpointError(
                "batch and window must be as in the checkpoint: {} and {}".format(*position["shape"])
            )
        self._rows = [_Row(*row) for row in position["rows"]]
        self._rng.bit_generator.state = position["random"]


@dataclass
class _Row:
    """Where a row reads: the number of its text and block, the next step and the end of the block's, and the
    position of the last step, or where the block begins."""

    text: int = 0
    block: int = 0
    next: int = 0
    end: int = 0
    before: int = 0


def first_unsure(steps: npt.NDArray[np.void], gate: int) -> npt.NDArray[np.uint8]:
    """The first bit of each byte, from the one on that is recorded, at which |ln(p / (1 - p))| < gate / 256;
    8 if there is none. steps: (n,) of `STEP`."""
    if gate == GATE_ALWAYS:
        return steps["woke"]
    edge = 65536 / (1 + np.exp(-gate / 256))
    p = steps["probability"]
    unsure = (p < edge) & (p > 65536 - edge) & (np.arange(8) >= steps["woke"][:, None])
    return np.where(unsure.any(1), unsure.argmax(1), 8).astype(np.uint8)


def path_odds(logits: Tensor, targets: Tensor) -> Tensor:
    """(N, 8): the logarithm of odds of a 1 before each bit of the targets (N,), in nats.

    logits: (N, 256), of which bit j gets those of the bytes that agree with the target's bits before it.
    """
    mass = torch.softmax(logits, -1)
    odds = []
    for j in range(7, -1, -1):
        # mass: (N, 2**(j+1)) of the prefixes of j + 1 bits
        prefix = (targets >> (8 - j)).unsqueeze(1)
        pair = mass.view(len(mass), -1, 2).gather(1, prefix.unsqueeze(2).expand(-1, -1, 2)).squeeze(1)
        pair = (pair + 1e-12).log()
        odds.append(pair[:, 1] - pair[:, 0])
        mass = mass.view(len(mass), -1, 2).sum(-1)
    return torch.stack(odds[::-1], 1)


class Mixture(nn.Module):
    """p = sigmoid(a o_0 + b o_1), a and b by bit and by level 0's certainty."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.full((8, CERTAINTIES, 2), 0.5))
        self.register_buffer("bit", torch.arange(8), persistent=False)
        self.bit: Tensor

    def forward(self, foretold: Tensor, odds: Tensor) -> Tensor:
        """The logarithm of odds (N, 8) from level 0's (N, 8) and the levels' (N, 8)."""
        certainty = foretold.abs().long().clamp_(max=CERTAINTIES - 1)
        weight = self.weight[self.bit, certainty]
        return weight[..., 0] * foretold + weight[..., 1] * odds


def code_nats(odds: Tensor, window: Window, wanted: Tensor | None = None) -> Tensor:
    """(T, B): what each byte's bits from `woke` on take at odds (T, B, 8), in nats.

    wanted: (T, B, 8), probabilities of a 1 in place of the bits, over which the mean is taken.
    """
    j = torch.arange(8, device=odds.device)
    if wanted is None:
        wanted = (window.targets.unsqueeze(-1) >> (7 - j) & 1).to(odds.dtype)
    asked = (j >= window.woke.unsqueeze(-1)) & window.counted.unsqueeze(-1)
    cost = nn.functional.binary_cross_entropy_with_logits(odds, wanted, reduction="none")
    return (cost * asked).sum(-1)


@dataclass(frozen=True)
class WokenState:
    """Between two windows. levels: their states. pending: (L - 1, B) bool, upper levels for which the byte
    (B,) that came last waits.
    """

    levels: tuple[LevelState, ...]
    pending: Tensor
    byte: Tensor

    def reset(self, rows: Tensor) -> WokenState:
        """The state with the rows (B,) bool made cold."""
        levels = tuple(level.reset(rows) for level in self.levels)
        return WokenState(levels, self.pending & ~rows, self.byte)

    def detach(self) -> WokenState:
        return replace(self, levels=tuple(level.detach() for level in self.levels))

    def state_dict(self) -> dict[str, Tensor]:
        """All tensors by name, for a checkpoint."""
        return {**StackState(self.levels).state_dict(), "pending": self.pending, "byte": self.byte}

    @classmethod
    def from_state_dict(cls, tensors: Mapping[str, Tensor]) -> WokenState:
        own = {name: tensor for name, tensor in tensors.items() if name not in ("pending", "byte")}
        return cls(StackState.from_state_dict(own).levels, tensors["pending"], tensors["byte"])


@dataclass(frozen=True)
class WokenOutput:
    """What a woken stack made of a window.

    logits: (T, B, 256) of all levels together. odds: (T, B, 8), of a 1 before each bit as the mixture has
    them, in nats. nats: (T, B), what the bits of each byte from `woke` on take.
    events: per level (T, B) bool, the bytes that it received. surprises_bits: per gate (T, B).
    state: afterwards.
    """

    logits: Tensor
    odds: Tensor
    nats: Tensor
    events: tuple[Tensor, ...]
    surprises_bits: tuple[Tensor, ...]
    state: WokenState


class WokenStack(nn.Module):
    """A joint stack that runs as in an archive, with the mixture that it is trained through.

    Level 1 steps at every byte at which it wakes. A byte that levels 1 .. l did not expect waits for level l
    + 1, which reads it when level 1 wakes next, with level l's state of then and the steps of level 1 since
    its own last one.
    """

    def __init__(self, stack: Stack) -> None:
        super().__init__()
        self.stack, self.mixture = stack, Mixture()

    def start(self, batch: int) -> WokenState:
        """A cold state for `batch` rows."""
        levels = self.stack.start(batch).levels
        device = levels[0].h.device
        pending = torch.zeros(len(levels) - 1, batch, dtype=torch.bool, device=device)
        return WokenState(levels, pending, torch.zeros(batch, dtype=torch.int64, device=device))

    def forward(self, window: Window, state: WokenState) -> WokenOutput:
        """Run a window; rows that are cold start anew."""
        state = state.reset(window.cold)
        after, first = self._run_first(window, state.levels[0])
        logits = self.stack.level(0).logits(after)
        events, surprises, states, pending = [window.counted], [], [first], []
        for index in range(1, len(self.stack.levels)):
            with torch.no_grad():
                surprises.append(surprise_bits(logits, window.targets))
                missed = self.stack.unexpected(index - 1, logits, window.targets)
                missed[0] |= state.levels[index].fresh & ~state.pending[index - 1]
            events.append(events[-1] & missed)
            steps = torch.cat([state.pending[index - 1].unsqueeze(0), events[-1][:-1]]) & window.counted
            pending.append(events[-1][-1])
            after, changed = self._run_upper(index, steps, window, state, after)
            states.append(changed)
            logits = logits + self.stack.level(index).logits(after, bias=False)
        T, B = window.targets.shape
        odds = path_odds(logits.reshape(T * B, -1), window.targets.reshape(-1))
        mixed = self.mixture(window.odds.reshape(T * B, 8), odds).view(T, B, 8)
        waiting = torch.stack(pending) if pending else state.pending
        following = WokenState(tuple(states), waiting, window.targets[-1]).detach()
        return WokenOutput(
            logits, mixed, code_nats(mixed, window), tuple(events), tuple(surprises), following
        )

    def _run_first(self, window: Window, state: LevelState) -> tuple[Tensor, LevelState]:
        """Level 1's states (T, B, H), and its state afterwards."""
        level = self.stack.level(0)
        below = None
        if level.ngram_table is not None and level.ngrams is not None:
            rows = rows_of_latest(window.latest, window.words if level.ngrams.word else None, level.ngrams)
            below = ngram_code(level.ngram_table, rows, level.ngram_dropout if self.training else 0.0)
        a = level.preactivation(window.symbols, window.times, below, window.guesses, window.confidences)
        hs, cs = recur(level.cell, a, state.h, state.c, level.recurrent, level.candidate_bias)
        return hs, replace(state, h=hs[-1], c=None if cs is None else cs[-1])

    def _run_upper(
        self, index: int, steps: Tensor, window: Window, state: WokenState, below: Tensor
    ) -> tuple[Tensor, LevelState]:
        """A level's states (T, B, H), held between its steps (T, B) bool, and its state afterwards.

        below: (T, B, H'), of the level below.
        """
        level, own, T = self.stack.level(index), state.levels[index], len(steps)
        clock = torch.arange(T, device=steps.device).unsqueeze(1).expand_as(steps)
        symbols = torch.cat([state.byte.unsqueeze(0), window.targets[:-1]])
        at, read, lower = pack(steps, clock, symbols, below)
        times = torch.diff(at, dim=0, prepend=-own.since.unsqueeze(0)).clamp_min(1)
        count = steps.sum(0)
        values, after = level.run(read, own, times, lower, count)
        held = pick(values, count_before(steps) + steps)
        last = torch.where(steps, clock, 0).amax(0)
        since = torch.where(count > 0, T - last, own.since + T)
        return held, replace(after, since=since, fresh=own.fresh & (count == 0))
