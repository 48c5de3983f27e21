"""Nets that read events: padding, pooling, and a recurrent one made of copies of the stack's levels.

events of a level --level's copy--> states (E, B, H) --pooling--> (B, P H) --linear or MLP--> (B, classes)
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from chunker.classification.inputs import Array, read_between
from chunker.learning.history import History, HistoryStack, batches, pad, since_of
from chunker.learning.level import Level
from chunker.learning.observation import Observation


@dataclass(frozen=True)
class Reading:
    """What one level of one sequence received: inputs (E,) or (E, D), and their times (E,)."""

    inputs: Array
    at: Array

    def backwards(self) -> Reading:
        """From the last event to the first."""
        if not len(self.at):
            return self
        return Reading(self.inputs[::-1].copy(), self.at[-1] - self.at[::-1])


class Pool(nn.Module):
    """States (E, B, H) of which those given (E, B) count -> (B, P H); zeros for rows without events."""

    def __init__(self, width: int, pooling: str) -> None:
        super().__init__()
        self.kinds = pooling.split("+")
        self.score = nn.Linear(width, 1) if "attention" in self.kinds else None

    def forward(self, states: Tensor, given: Tensor) -> Tensor:
        E, B, H = states.shape
        if E == 0:
            return states.new_zeros(B, H * len(self.kinds))
        some = given.any(0).unsqueeze(-1)
        mask = given.unsqueeze(-1)
        pooled: list[Tensor] = []
        for kind in self.kinds:
            if kind == "last":
                last = (given.sum(0) - 1).clamp_min(0)
                one = states[last, torch.arange(B)]
            elif kind == "mean":
                one = (states * mask).sum(0) / given.sum(0).clamp_min(1).unsqueeze(-1)
            elif kind == "max":
                one = states.masked_fill(~mask, -torch.inf).amax(0)
            else:
                if self.score is None:
                    raise TypeError("no attention was built")
                scores = self.score(states).masked_fill(~mask, -1e9)
                one = (torch.softmax(scores, 0) * states).sum(0)
            pooled.append(torch.where(some, one, torch.zeros_like(one)))
        return torch.cat(pooled, -1)


class CaseNet(nn.Module):
    """A net that gives (B, outputs) logits of cases, called with a list of readings for each case.

    noise: standard deviation of what is added to vectors in training.
    """

    def __init__(self, observation: Observation, noise: float) -> None:
        super().__init__()
        self.observation, self.noise = observation, noise

    def padded(self, inputs: list[Array]) -> tuple[Tensor, Tensor]:
        """Inputs (T, B[, D]) in the net's own type, in training with noise; and which are given (T, B)."""
        values, given = pad(inputs, self.observation, next(self.parameters()).dtype)
        if self.training and self.noise and not self.observation.is_symbols:
            values = values + self.noise * torch.randn_like(values)
        return values, given

    def readings(self, sequence: Array, history: History) -> list[Reading]:
        """What the net reads of a sequence."""
        raise NotImplementedError

    def pooled(self, rows: list[list[Reading]]) -> Tensor:
        """(B, P): what the last layer sees of the cases."""
        raise NotImplementedError

    def ready(self) -> CaseNet:
        """In evaluation mode, in float64, without gradients."""
        return self.eval().double().requires_grad_(False)


class RecurrentNet(CaseNet):
    """Copies of the stack's levels, whose states are pooled over the events that each level received.

    read: numbers of the levels to read. tune: the copies are trained as well. hidden: a hidden layer before
    the last one. backwards: a second copy of each level reads its events from the last to the first.
    """

    def __init__(
        self,
        stack: HistoryStack,
        outputs: int,
        read: list[int],
        pooling: str = "last+mean",
        *,
        tune: bool = False,
        hidden: bool = False,
        backwards: bool = False,
        dropout: float = 0.0,
        noise: float = 0.0,
    ) -> None:
        super().__init__(stack.observation, noise)
        self.read_levels, self.both_ways = read, backwards
        ways = 2 if backwards else 1
        self.copies = nn.ModuleList()
        for index in read:
            for _ in range(ways):
                self.copies.append(copy.deepcopy(stack.level(index)).float())
        self.copies.requires_grad_(tune)
        widths = [stack.level(index).width for index in read for _ in range(ways)]
        self.pools = nn.ModuleList(Pool(width, pooling) for width in widths)
        total = sum(widths) * len(pooling.split("+"))
        self.dropout = nn.Dropout(dropout)
        self.norm = nn.LayerNorm(total)
        layers = [nn.Linear(total, total), nn.GELU(), nn.Dropout(dropout)] if hidden else []
        self.out = nn.Sequential(*layers, nn.Linear(total, outputs))

    def readings(self, sequence: Array, history: History) -> list[Reading]:
        """What each copy reads of a sequence."""
        found = []
        for index in self.read_levels:
            at = history.levels[index]
            reading = Reading(sequence[at], at)
            found.append(reading)
            if self.both_ways:
                found.append(reading.backwards())
        return found

    def states(self, rows: list[list[Reading]]) -> list[tuple[Tensor, Tensor]]:
        """Per copy the states (E, B, H) and which are given (E, B), of one list of readings a row."""
        found = []
        for i, level in enumerate(self.copies):
            if not isinstance(level, Level):
                raise TypeError("a copy is no level")
            inputs, given = self.padded([row[i].inputs for row in rows])
            since = torch.ones(given.shape, dtype=torch.int64)
            for b, row in enumerate(rows):
                since[: len(row[i].at), b] = torch.from_numpy(since_of(row[i].at))
            hs, _ = level(inputs, level.start(len(rows)), since.clamp_min(1))
            found.append((hs, given))
        return found

    def pooled(self, rows: list[list[Reading]]) -> Tensor:
        """(B, P): all copies' pooled states side by side."""
        parts = zip(self.pools, self.states(rows), strict=True)
        return torch.cat([pool(states, given) for pool, (states, given) in parts], -1)

    def forward(self, rows: list[list[Reading]]) -> Tensor:
        logits: Tensor = self.out(self.dropout(self.norm(self.pooled(rows))))
        return logits


def warped(reading: list[Reading], factor: float, observation: Observation) -> list[Reading]:
    """Times stretched by `factor`; a level that received every vector gets them interpolated."""
    found = []
    for one in reading:
        E = len(one.at)
        if not observation.is_symbols and E > 1 and int(one.at[-1]) == E - 1:
            where = np.linspace(0, E - 1, max(round(E * factor), 2))
            found.append(Reading(read_between(one.inputs, where), np.arange(len(where))))
        else:
            found.append(Reading(one.inputs, np.round(one.at * factor).astype(np.int64)))
    return found


def mean_log_probabilities(nets: list[CaseNet], readings: list[list[Reading]]) -> Array:
    """(n, C) natural logarithms of the nets' probabilities, averaged."""
    every = torch.stack([_batched(readings, _log_probabilities(net)) for net in nets])
    return np.asarray((torch.logsumexp(every, 0) - np.log(len(nets))).numpy())


def _log_probabilities(net: CaseNet) -> Callable[[list[list[Reading]]], Tensor]:
    return lambda rows: torch.log_softmax(net(rows), -1)


def pooled_features(net: CaseNet, readings: list[list[Reading]]) -> Array:
    """(n, P) pooled states."""
    return np.asarray(_batched(readings, net.pooled).numpy())


@torch.no_grad()
def _batched(readings: list[list[Reading]], function: Callable[[list[list[Reading]]], Tensor]) -> Tensor:
    lengths: list[Array] = [row[0].at for row in readings]
    found: list[tuple[int, Tensor]] = []
    for batch in batches(lengths, 64):
        result = function([readings[i] for i in batch])
        found.extend(zip(batch, result, strict=True))
    return torch.stack([row for _, row in sorted(found, key=lambda pair: pair[0])])
