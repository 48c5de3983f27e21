"""What the scikit-learn estimators share: parameters, preparing sequences, training the stack, reading."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted, validate_data

from chunker.classification.events import Events
from chunker.classification.heads import FEATURES, Cases, check_choice
from chunker.classification.inputs import (
    Array,
    Preparation,
    as_sequences,
    check_table,
    is_ragged,
    is_text,
)
from chunker.config import GateRule
from chunker.errors import UsageError
from chunker.learning.pretraining import PretrainConfig, pretrain


@dataclass(eq=False, repr=False)
class HistoryEstimator(BaseEstimator):  # type: ignore[misc]  # scikit-learn is untyped
    """What classifier, transformer and transcriber share.

    Parameters
    ----------
    levels: hidden units of each level, lowest first.
    cell: "gru", "lstm" or "rnn".
    gate: what goes up, a chunker.GateRule; "auto": symbols of more than 1 bit, of vectors a share.
    steps: gradient steps of pre-training a level at most; 0: none, the levels stay random.
    window: inputs that gradients of pre-training reach back.
    kind: "auto", "symbols" or "vectors"; see chunker.classification.inputs.
    per_case: vectors are standardised case by case.
    deltas: changes of vectors are further channels.
    features: "all": the inputs of every level are seen, the lowest level's included; the better one for short
        sequences. "top": only events that reach the top level, as the method says; for long time lags.
    random_state: None, a number, or numpy's generator. Same number, same machine: same results.
    """

    AUTO_SHARE: ClassVar[float] = 0.25  # of vectors that go up with gate="auto"

    levels: tuple[int, ...] = (64, 64)
    _: KW_ONLY
    cell: str = "gru"
    gate: str | GateRule = "auto"
    steps: int = 300
    window: int = 128
    kind: str = "auto"
    per_case: bool = False
    deltas: bool = False
    features: str = "all"
    random_state: Any = None

    def _prepare(self, kind: str, raw: list[Array], text: bool) -> list[Array]:
        """Learn how to prepare sequences, and prepare them."""
        self.preparation_ = Preparation.learn(kind, raw, self.per_case, self.deltas, text)
        return self.preparation_.apply(raw)

    def _check(self) -> None:
        """Raise UsageError for parameters that cannot be used, before anything is trained."""
        self._pretrain_config()
        check_choice("features", self.features, FEATURES)
        if self.gate != "auto" and not isinstance(self.gate, GateRule):
            raise UsageError(f"gate {self.gate!r} is not known; give 'auto' or a chunker.GateRule")

    def _sequences(self, X: Any, fitting: bool) -> list[Array]:
        """Prepared sequences; arrays with two dimensions are validated by scikit-learn as any table."""
        shape = getattr(X, "shape", None)
        if shape is None and hasattr(X, "__array__"):
            X = np.asarray(X)
            shape = X.shape
        if shape is not None and not (len(shape) == 3 or is_ragged(X)):
            check_table(X)
            X = validate_data(self, X, reset=fitting, dtype="numeric")
        elif fitting:  # sequences of any length; of one length they pass for a table, and tables must fit it
            lengths = {len(row) for row in as_sequences(X, self.kind)[1]}
            if len(lengths) == 1:
                self.n_features_in_ = lengths.pop()
            elif hasattr(self, "n_features_in_"):
                del self.n_features_in_
        if fitting:
            return self._prepare(*as_sequences(X, self.kind), is_text(X))
        return self.preparation_.apply(as_sequences(X, self.preparation_.kind)[1])

    def _pretrain_config(self) -> PretrainConfig:
        """The stack's part of the parameters."""
        return PretrainConfig(levels=self.levels, steps=self.steps, window=self.window)

    @contextmanager
    def _seeded(self) -> Iterator[tuple[int, np.random.Generator]]:
        """A seed from random_state and a generator; torch's generator is restored afterwards."""
        seed = int(check_random_state(self.random_state).randint(2**31 - 1))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            yield seed, np.random.default_rng(seed)

    def _pretrain(self, sequences: list[Array], random: np.random.Generator) -> None:
        observation = self.preparation_.observation
        automatic = GateRule("surprise", 1.0) if observation.is_symbols else GateRule("rate", self.AUTO_SHARE)
        gate = self.gate if isinstance(self.gate, GateRule) else automatic
        self.stack_, self.growth_ = pretrain(
            observation, sequences, self._pretrain_config(), gate, self.cell, random
        )

    def _cases(self, X: Any) -> Cases:
        """New sequences and what the stack finds in them."""
        check_is_fitted(self, "stack_")
        sequences = self._sequences(X, fitting=False)
        return Cases(sequences, self.stack_.read(sequences))

    def event_share(self, X: Any) -> float:
        """The share of the inputs that reach the top level."""
        return self._cases(X).event_share

    def events(self, sequence: Any) -> Events:
        """Which inputs of one sequence reached which level; a notebook shows it.

        Raises
        ------
        UsageError: it is no sequence of the kind that was fitted. NotFittedError: nothing was.
        """
        (history,) = self._cases([sequence]).histories
        (inputs,) = as_sequences([sequence], self.preparation_.kind)[1]
        return Events.of(inputs, history, self.preparation_.kind == "symbols" and is_text([sequence]))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.three_d_array = True
        tags.non_deterministic = False
        return tags
