"""Heads: what a `HistoryClassifier` trains on the events of its stack, and whose scores it pools.

RecurrentHead      copies of the stack's levels read its events
ConvolutionalHead  2-D convolutions over spectra (convolutions.py)
NgramHead          counted n-grams of symbols and of words (linear.py)
RandomKernelHead   random convolutions of vectors (linear.py)

A head's parameters are scikit-learn's: `get_params`, `set_params` and `clone` work. Names of what is
learnt end in "_".
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from torch import Tensor

from chunker.classification.inputs import Array, Preparation
from chunker.classification.nets import CaseNet, Reading, RecurrentNet, mean_log_probabilities, warped
from chunker.errors import UsageError
from chunker.learning.claims import check_fits
from chunker.learning.config import check_count
from chunker.learning.fitting import descend
from chunker.learning.history import History, HistoryStack, of_like_length

POOLINGS = ("last", "mean", "max", "attention")
READOUTS = ("linear", "mlp", "tune")
FEATURES = ("top", "all")


@dataclass(frozen=True)
class Cases:
    """Prepared sequences, what the stack found in each, and labels (n,): numbers below the classes' count."""

    sequences: list[Array]
    histories: list[History]
    labels: Array = field(default_factory=lambda: np.zeros(0, np.int64))

    def take(self, rows: Array) -> Cases:
        """Those of the given numbers (n,)."""
        return Cases([self.sequences[i] for i in rows], [self.histories[i] for i in rows], self.labels[rows])

    def readings(self, net: CaseNet) -> list[list[Reading]]:
        """What a net reads of each case."""
        return [net.readings(s, h) for s, h in zip(self.sequences, self.histories, strict=True)]

    @property
    def event_share(self) -> float:
        """The share of the inputs that reach the top level."""
        total = sum(map(len, self.sequences))
        return sum(len(history.top) for history in self.histories) / total if total else 0.0


@dataclass(frozen=True)
class Task:
    """What heads are made for: a trained stack, how its inputs are prepared, and the number of classes.

    features: "all" or "top", the events that are seen. seed: of the linear models.
    """

    stack: HistoryStack
    preparation: Preparation
    features: str
    classes: int
    seed: int = 0

    @property
    def read_levels(self) -> list[int]:
        """Numbers of the levels whose events are seen."""
        depth = len(self.stack.levels)
        return [depth - 1] if self.features == "top" else list(range(depth))


class Head(BaseEstimator, ABC):  # type: ignore[misc]  # scikit-learn is untyped
    """One of a classifier's heads."""

    needs: ClassVar[str] = ""  # "symbols" or "vectors", where it cannot read both

    def check_inputs(self, kind: str) -> None:
        """Raise UsageError if the head cannot read inputs of that kind."""
        if self.needs and self.needs != kind:
            raise UsageError(
                f"a {type(self).__name__} reads {self.needs}, and these are {kind}; leave it out of heads"
            )

    @abstractmethod
    def check(self) -> None:
        """Raise UsageError if a parameter cannot be used."""

    @abstractmethod
    def fit(self, task: Task, cases: Cases, held: Array, random: np.random.Generator) -> list[Array]:
        """Learn from the cases that are not held out; the `scores` of those that are.

        held: (n,) bool. A head that trains fast may learn from all cases after that.
        """

    @abstractmethod
    def scores(self, cases: Cases) -> list[Array]:
        """Parts, (n, C) each: natural logarithms of the classes' probabilities, but for scale and shift."""

    @abstractmethod
    def saved(self) -> tuple[dict[str, Any], dict[str, Array]]:
        """What was learnt: facts for JSON, and tensors."""

    @abstractmethod
    def restore(self, task: Task, facts: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
        """The inverse of `saved`."""


def check_choice(name: str, value: Any, known: tuple[str, ...]) -> None:
    """Raise UsageError unless a parameter is one of those known."""
    if value not in known:
        raise UsageError(f"{name} {value!r} is not known; choose of {', '.join(known)}")


@dataclass(eq=False, repr=False, kw_only=True)
class TrainedHead(Head):
    """A head of nets trained by AdamW, with a learning rate that warms up and falls to zero along a cosine.

    Parameters
    ----------
    members: how many nets are trained from different seeds and their probabilities averaged.
    steps, learning_rate, weight_decay: of AdamW.
    batch_size: cases a step; None: a fiftieth of the cases, 32 to 256.
    dropout: of what the last layer sees.
    noise: vectors: standard deviation of noise added in training.
    warp: time is stretched by up to this share in training.
    label_smoothing: share of the labels' weight that is spread evenly over all classes in training (Szegedy
        et al. 2016).
    """

    members: int = 1
    steps: int = 400
    batch_size: int | None = None
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    dropout: float = 0.1
    noise: float = 0.0
    warp: float = 0.0
    label_smoothing: float = 0.0

    def check(self) -> None:
        check_count("members", self.members, 1)
        check_count("steps of the head", self.steps, 0)
        if self.batch_size is not None:
            check_count("batch_size", self.batch_size, 1)
        for name in ("dropout", "warp", "label_smoothing"):
            if not 0 <= getattr(self, name) < 1:
                raise UsageError(f"{name} lies in [0, 1), not {getattr(self, name)!r}; correct it")
        for name in ("noise", "weight_decay", "learning_rate"):
            if not 0 <= getattr(self, name) < np.inf:
                raise UsageError(
                    f"{name} is finite and not negative, not {getattr(self, name)!r}; correct it"
                )

    @abstractmethod
    def new_net(self, task: Task) -> CaseNet:
        """An untrained net, its weights from torch's global generator."""

    def fit(self, task: Task, cases: Cases, held: Array, random: np.random.Generator) -> list[Array]:
        own = cases.take(np.flatnonzero(~held))
        targets = torch.from_numpy(own.labels)
        self.nets_ = [self.new_net(task) for _ in range(self.members)]
        for net in self.nets_:

            def loss(rows: list[list[Reading]], picked: Tensor, net: CaseNet = net) -> Tensor:
                return torch.nn.functional.cross_entropy(
                    net(rows), targets[picked], label_smoothing=self.label_smoothing
                )

            self.train(net, own.readings(net), loss, random)
        return self.scores(cases.take(np.flatnonzero(held))) if held.any() else []

    def batch_for(self, cases: int) -> int:
        """Cases a step, of so many."""
        return min(max(cases // 50, 32), 256) if self.batch_size is None else self.batch_size

    def train(
        self,
        net: CaseNet,
        readings: list[list[Reading]],
        loss: Callable[[list[list[Reading]], Tensor], Tensor],
        random: np.random.Generator,
    ) -> None:
        """Train a net in place and make it ready.

        loss: the mean over cases: what these read, and their numbers (B,) int64. A batch whose cases differ
            much in length is read in parts.

        Raises
        ------
        TrainingError: the loss is no longer finite.
        """
        batch = self.batch_for(len(readings))

        def losses() -> Iterator[Tensor]:
            queue: list[int] = []
            for _ in range(self.steps):
                while len(queue) < batch:
                    queue.extend(int(i) for i in random.permutation(len(readings)))
                picked, queue = queue[:batch], queue[batch:]
                rows = [readings[i] for i in picked]
                if self.warp:
                    stretch = 1 + self.warp * random.uniform(-1, 1, len(rows))
                    rows = [
                        warped(row, float(s), net.observation) for row, s in zip(rows, stretch, strict=True)
                    ]
                parts = of_like_length([max(len(each.at) for each in row) for row in rows])
                yield torch.stack(
                    [
                        loss([rows[i] for i in part], torch.tensor([picked[i] for i in part]))
                        * (len(part) / len(rows))
                        for part in parts
                    ]
                ).sum()

        def learning_rate(step: int) -> float:
            warm = min(1.0, (step + 1) / max(self.steps * 0.1, 1))
            return float(self.learning_rate * warm * (0.5 + 0.5 * np.cos(np.pi * step / self.steps)))

        net.train()
        tuned = [p for p in net.parameters() if p.requires_grad]
        for _ in descend(losses(), tuned, learning_rate, weight_decay=self.weight_decay):
            pass
        net.ready()

    def scores(self, cases: Cases) -> list[Array]:
        return [mean_log_probabilities(self.nets_, cases.readings(self.nets_[0]))]

    def saved(self) -> tuple[dict[str, Any], dict[str, Array]]:
        tensors: dict[str, Array] = {}
        for i, net in enumerate(self.nets_):
            tensors |= net_tensors(net, f"{i}.")
        return {}, tensors

    def restore(self, task: Task, facts: Mapping[str, Any], tensors: Mapping[str, Array]) -> None:
        if self.members > len(tensors):
            raise ValueError("there are more members than tensors")
        check_fits(lambda: self.new_net(task), tensors.values())
        self.nets_ = [self.new_net(task) for _ in range(self.members)]
        for i, net in enumerate(self.nets_):
            load_net(net, tensors, f"{i}.")


@dataclass(eq=False, repr=False, kw_only=True)
class RecurrentHead(TrainedHead):
    """Copies of the stack's levels read the events; a small net tells the classes from their pooled states.

    Parameters
    ----------
    pooling: of states over events: "last", "mean", "max", "attention", or several joined with "+".
    readout: "linear" or "mlp" on frozen copies of the levels; "tune": linear, and the copies are trained.
    backwards: a second copy of each level reads the events from the last to the first.
    members, steps, batch_size, learning_rate, weight_decay, dropout, noise, warp, label_smoothing: of
        training; see TrainedHead.
    """

    pooling: str = "last+mean"
    readout: str = "tune"
    backwards: bool = False

    def check(self) -> None:
        super().check()
        check_choice("readout", self.readout, READOUTS)
        check_pooling(self.pooling)

    def new_net(self, task: Task) -> RecurrentNet:
        return RecurrentNet(
            task.stack,
            task.classes,
            task.read_levels,
            self.pooling,
            tune=self.readout == "tune",
            hidden=self.readout == "mlp",
            backwards=self.backwards,
            dropout=self.dropout,
            noise=self.noise,
        )


def check_pooling(pooling: Any) -> None:
    """Raise UsageError unless every part of the pooling is known."""
    for one in pooling.split("+") if isinstance(pooling, str) else [pooling]:
        check_choice("pooling", one, POOLINGS)


def net_tensors(net: torch.nn.Module, prefix: str) -> dict[str, Array]:
    """A net's weights, for `load_net`."""
    return {f"{prefix}{name}": value.numpy() for name, value in net.state_dict().items()}


def load_net(net: torch.nn.Module, tensors: Mapping[str, Array], prefix: str) -> None:
    """Fill a net with the tensors whose names begin with `prefix`; a CaseNet ends ready."""
    if isinstance(net, CaseNet):
        net.ready()
    own = {name.removeprefix(prefix): v for name, v in tensors.items() if name.startswith(prefix)}
    net.load_state_dict({name: torch.from_numpy(np.array(v)) for name, v in own.items()})
