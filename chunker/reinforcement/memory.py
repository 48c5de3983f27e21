"""A history stack as a memory: it reads, and learns, the observations of environments that run side by side.

    observations --Alphabet--> symbols --level 0--> what it did not predict --level 1--> ... --> top level
                                                                                                    |
                                     for the policy: the top level's state, the time since its last event

What was predicted changes nothing in the top level, so its state still tells what came before a long stretch
of it (Schmidhuber 1992). The first observation of an episode always reaches the top. The stack predicts
observations from observations; it does not see actions or rewards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import NDArray

from chunker.config import GateRule
from chunker.errors import UsageError
from chunker.learning.config import check_count
from chunker.learning.history import HistoryStack
from chunker.learning.observation import Categorical
from chunker.learning.pretraining import PretrainConfig, PretrainReport, pretrain
from chunker.reinforcement.symbols import Alphabet

Booleans = NDArray[np.bool_]
_LONGEST = 16.0  # the time since the last event is told as log2(1 + time) / 16, at most 1


@dataclass(frozen=True)
class MemoryConfig:
    """How a memory reads and learns.

    Attributes
    ----------
    levels: hidden units of each level, lowest first. cell: "rnn", "gru" or "lstm".
    gate: which symbols go up; see GateRule. Noise of b bits a step goes up unless the threshold is above b.
    observations: that are read, of all environments together, before the stack learns from them; until then
        its weights are random.
    again: after how many more it goes on learning, each time on those read since; None: it is frozen.
    steps, window, batch: of training each level, see PretrainConfig.
    bins: of each real number in an observation. seed: of the weights and of training.

    Raises
    ------
    UsageError: a value that makes no sense.
    """

    levels: Sequence[int] = (16, 16)
    cell: str = "gru"
    gate: GateRule = field(default_factory=lambda: GateRule("surprise", 0.5))
    observations: int = 4096
    again: int | None = None
    steps: int = 200
    window: int = 64
    batch: int = 16
    bins: int = 8
    seed: int = 0

    def __post_init__(self) -> None:
        check_count("observations", self.observations, 1)
        if self.again is not None:
            check_count("again", self.again, 1)
        if len(self.training.levels) < 2:
            raise UsageError(f"levels={self.levels!r}: a memory has two levels or more, as in (16, 16)")

    @property
    def training(self) -> PretrainConfig:
        """How the stack is trained."""
        return PretrainConfig(
            self.levels, self.steps, self.window, self.batch, learning_rate=1e-2, all_levels=True
        )


class Memory:
    """The memory of B environments.

    stack: as it is now; a HistoryStack that was trained elsewhere may be given, and is then used as it is
    unless `again` is set. reports: of its last training, a level each; empty before. event: (B,) whether the
    last observations reached the top level.
    """

    def __init__(
        self,
        space: gym.Space,
        rows: int,
        config: MemoryConfig | None = None,
        stack: HistoryStack | None = None,
    ) -> None:
        self.config = config or MemoryConfig()
        self.alphabet = Alphabet.of(space, self.config.bins)
        observation = Categorical(self.alphabet.size)
        if stack is not None and stack.observation != observation:
            raise UsageError(
                f"the stack reads {stack.observation}, but these observations are {observation}; give one "
                "that was trained on observations of the same space"
            )
        self._random = np.random.default_rng(self.config.seed)
        self.reports: list[PretrainReport] = []
        self._due: int | None = self.config.observations if stack is None else self.config.again
        self.stack = self._trained([], None) if stack is None else stack
        self._rows, self._count = rows, 0
        self._log: list[tuple[NDArray[np.int64], Booleans]] = []
        self._states = self.stack.start(rows)
        self._still, self._last = False, np.zeros(rows, np.int64)
        self.event = np.ones(rows, np.bool_)

    @property
    def width(self) -> int:
        """F, how many numbers it tells the policy."""
        return self.stack.widths[-1] + 1

    @property
    def bounds(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """The least and the largest that these can be, (F,) each."""
        low, high = -np.ones(self.width, np.float32), np.ones(self.width, np.float32)
        low[-1] = 0
        return low, high

    def read(self, observations: Any, begin: Booleans) -> NDArray[np.float32]:
        """Read an observation of each environment; begin: (B,), whether it is the first of an episode.

        Returns (B, F): the top level's state, within -1 and 1, and log2(1 + time) / 16 of its last event.
        """
        symbols = self.alphabet.number(observations, self._rows)
        if self._due is None:
            self._advance(symbols, begin)
        else:
            self._log.append((symbols, begin.copy()))
            self._count += self._rows
            if self._count >= self._due:
                self.learn()
            else:
                self._advance(symbols, begin)
        top = self._states[-1]
        since = torch.log2(1.0 + top.since.double()) / _LONGEST
        return np.asarray(torch.cat([top.h, since.clamp(max=1).unsqueeze(1)], 1).float().numpy())

    def learn(self) -> None:
        """Train the stack now, on what was read since it learned last, and read the running episodes again.

        Nothing is recorded, and so nothing learned, once the stack is frozen.
        """
        if not self._log:
            return
        symbols = np.stack([came for came, _ in self._log])
        begins = np.stack([begin for _, begin in self._log])
        begins[0] = True
        first = [np.flatnonzero(column) for column in begins.T]
        episodes = [episode for b, at in enumerate(first) for episode in np.split(symbols[:, b], at[1:])]
        self.stack = self._trained(episodes, self.stack)
        self._due, self._count = self.config.again, 0
        self._still = False
        log = self._log[min(int(at[-1]) for at in first) :]
        self._states = self.stack.start(self._rows)
        for came, begin in log:
            self._advance(came, begin)
        self._log = [] if self._due is None else log

    def _trained(self, episodes: list[NDArray[np.int64]], start: HistoryStack | None) -> HistoryStack:
        config = self.config
        # the user's own draws stay what they are, and may be reading without gradients
        with torch.enable_grad(), torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed)
            stack, reports = pretrain(
                Categorical(self.alphabet.size),
                episodes,
                config.training,
                config.gate,
                config.cell,
                self._random,
                start,
            )
        self.reports = reports if episodes else []
        return stack

    def _advance(self, symbols: NDArray[np.int64], begin: Booleans) -> None:
        if begin.any():
            rows = torch.from_numpy(begin)
            self._states = [state.reset(rows) for state in self._states]
        elif self._still and (symbols == self._last).all():
            lowest, *upper = self._states
            self._states = [lowest, *(replace(state, since=state.since + 1) for state in upper)]
            return
        before = self._states[0]
        received, self._states = self.stack.step(torch.from_numpy(symbols), self._states)
        self.event, self._last = received[-1].numpy(), symbols
        # Once the lowest level is where it was, the same symbols change nothing but the time.
        self._still = not bool(received[1].any()) and torch.equal(before.h, self._states[0].h)
