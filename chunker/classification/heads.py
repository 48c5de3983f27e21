"""The supervised part: copies of the stack's levels that read its events, pooling, and a small net on top.

events of a level --level's copy--> states (E, B, H) --pooling--> (B, P H) --linear or MLP--> (B, classes)
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from chunker.classification.inputs import Array, read_between
from chunker.errors import UsageError
from chunker.learning.config import check_count
from chunker.learning.fitting import descend
from chunker.learning.history import History, HistoryStack, batches, pad, since_of
from chunker.learning.level import Level
from chunker.learning.observation import Observation

POOLINGS = ("last", "mean", "max", "attention")
HEADS = ("linear", "mlp", "tune")
FEATURES = ("top", "all")


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


@dataclass(frozen=True)
class HeadPlan:
    """How a head is made and trained.

    features: "top" reads the events of the top level alone, "all" those of every level.
    pooling: one of POOLINGS, or several joined with "+".
    head: "linear" and "mlp" on frozen levels; "tune" trains the copies of the levels as well, the rest linear.
    backwards: a second copy of each level reads the events from the last to the first.
    steps, batch, rate, decay: of AdamW. dropout: of pooled states. noise: vectors: standard deviation of noise
    added in training. warp: time is stretched by up to this share in training. smoothing: share of the labels' weight
    that is spread evenly over all classes in training (Szegedy et al. 2016); not used by CTC.
    """

    features: str = "top"
    pooling: str = "attention"
    head: str = "tune"
    backwards: bool = False
    steps: int = 400
    batch: int = 32
    rate: float = 3e-3
    decay: float = 1e-2
    dropout: float = 0.1
    noise: float = 0.0
    warp: float = 0.0
    smoothing: float = 0.0

    def __post_init__(self) -> None:
        check_count("steps of the head", self.steps, 0)
        check_count("batch", self.batch, 1)
        choices = (("features", FEATURES, [self.features]), ("head", HEADS, [self.head]))
        kinds = self.pooling.split("+") if isinstance(self.pooling, str) else [self.pooling]
        for name, known, given in (*choices, ("pooling", POOLINGS, kinds)):
            for one in given:
                if one not in known:
                    raise UsageError(f"{name} {one!r} is not known; choose of {', '.join(known)}")
        if (
            not all(0 <= share < 1 for share in (self.dropout, self.warp, self.smoothing))
            or not 0 <= self.noise < np.inf
        ):
            raise UsageError(
                "dropout, warp and smoothing lie in [0, 1), noise is finite and not negative; correct them"
            )


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


class CaseHead(nn.Module):
    """What a supervised head is to those who train and ask it: called with a row of readings for each case, it
    gives (B, outputs) logits.
    """

    def __init__(self, plan: HeadPlan, observation: Observation) -> None:
        super().__init__()
        self.plan, self.observation = plan, observation

    def padded(self, inputs: list[Array]) -> tuple[Tensor, Tensor]:
        """Inputs (T, B[, D]) of all rows in the head's own type, in training with the plan's noise; which are given."""
        values, given = pad(inputs, self.observation, next(self.parameters()).dtype)
        if self.training and self.plan.noise and not self.observation.is_symbols:
            values = values + self.plan.noise * torch.randn_like(values)
        return values, given

    def readings(self, sequence: Array, history: History) -> list[Reading]:
        """What the head reads of a sequence."""
        raise NotImplementedError

    def pooled(self, rows: list[list[Reading]]) -> Tensor:
        """(B, P): what the head makes of cases before it tells the classes."""
        raise NotImplementedError


class Head(CaseHead):
    """Reads histories, gives (B, outputs) logits. read: levels to read, if not those of `plan.features`."""

    def __init__(
        self, stack: HistoryStack, plan: HeadPlan, outputs: int, read: list[int] | None = None
    ) -> None:
        super().__init__(plan, stack.observation)
        depth = len(stack.levels)
        own = [depth - 1] if plan.features == "top" else list(range(depth))
        self.read_levels = own if read is None else read
        ways = 2 if plan.backwards else 1
        self.copies = nn.ModuleList()
        for index in self.read_levels:
            for _ in range(ways):
                self.copies.append(copy.deepcopy(stack.level(index)).float())
        self.copies.requires_grad_(plan.head == "tune")
        widths = [stack.level(index).width for index in self.read_levels for _ in range(ways)]
        self.pools = nn.ModuleList(Pool(width, plan.pooling) for width in widths)
        total = sum(widths) * len(plan.pooling.split("+"))
        self.dropout = nn.Dropout(plan.dropout)
        self.norm = nn.LayerNorm(total)
        hidden = [nn.Linear(total, total), nn.GELU(), nn.Dropout(plan.dropout)] if plan.head == "mlp" else []
        self.out = nn.Sequential(*hidden, nn.Linear(total, outputs))

    def readings(self, sequence: Array, history: History) -> list[Reading]:
        """What each copy reads of a sequence."""
        found = []
        for index in self.read_levels:
            at = history.levels[index]
            reading = Reading(sequence[at], at)
            found.append(reading)
            if self.plan.backwards:
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


def train_head(
    head: CaseHead,
    readings: list[list[Reading]],
    loss: Callable[[list[list[Reading]], Tensor], Tensor],
    random: np.random.Generator,
) -> None:
    """Train in place by AdamW with a rate that warms up and falls; the head ends in evaluation mode, float64.

    loss: of a batch: what its cases read, and the cases' numbers (B,) int64.

    Raises
    ------
    TrainingError: the loss is no longer finite.
    """
    plan = head.plan
    head.train()
    tuned = [p for p in head.parameters() if p.requires_grad]

    def losses() -> Iterator[Tensor]:
        queue: list[int] = []
        for _ in range(plan.steps):
            while len(queue) < plan.batch:
                queue.extend(int(i) for i in random.permutation(len(readings)))
            picked, queue = queue[: plan.batch], queue[plan.batch :]
            rows = [readings[i] for i in picked]
            if plan.warp:
                stretch = 1 + plan.warp * random.uniform(-1, 1, len(rows))
                rows = [warped(row, float(s), head.observation) for row, s in zip(rows, stretch, strict=True)]
            yield loss(rows, torch.tensor(picked))

    def learning_rate(step: int) -> float:
        warm = min(1.0, (step + 1) / max(plan.steps * 0.1, 1))
        return plan.rate * warm * (0.5 + 0.5 * math.cos(math.pi * step / plan.steps))

    for _ in descend(losses(), tuned, learning_rate, plan.decay):
        pass
    head.eval()
    head.double().requires_grad_(False)


def classify(head: CaseHead, readings: list[list[Reading]]) -> Tensor:
    """(N, outputs) log-probabilities."""
    return _batched(head, readings, lambda rows: torch.log_softmax(head(rows), -1))


def pooled_features(head: CaseHead, readings: list[list[Reading]]) -> Tensor:
    """(N, P) pooled states."""
    return _batched(head, readings, head.pooled)


@torch.no_grad()
def _batched(
    head: CaseHead, readings: list[list[Reading]], function: Callable[[list[list[Reading]]], Tensor]
) -> Tensor:
    lengths: list[Array] = [row[0].at for row in readings]
    found: list[tuple[int, Tensor]] = []
    for batch in batches(lengths, 64):
        result = function([readings[i] for i in batch])
        found.extend(zip(batch, result, strict=True))
    return torch.stack([row for _, row in sorted(found, key=lambda pair: pair[0])])
