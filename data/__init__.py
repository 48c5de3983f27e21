"""The data of the method's experiments, drawn from a seed.

tasks      tasks of symbols: the 20-step lag, lags of any length, the automaton, nested regularities
longlag    tasks of the long-time-lag literature: embedded Reber grammar, adding, temporal order; and the
           class that a first symbol decides
sources    sources whose entropy is known: Markov chains, hidden Markov models, the Reber grammar

A task draws one case at a time, `stream` joins cases to one stream without boundaries. Everything is drawn
from a `numpy.random.Generator` that the caller seeds; the same state gives the same data.

    >>> import numpy as np
    >>> from chunker.data import Lag, stream
    >>> stream(Lag(length=3), count=2, rng=np.random.default_rng(0)).symbols.tolist()
    [1, 2, 3, 1, 1, 2, 3, 1]
"""

from __future__ import annotations

from chunker.data.longlag import Adding, EmbeddedReber, FirstSymbol, TemporalOrder, VectorCase, legal_next
from chunker.data.sources import HiddenMarkov, MarkovChain, ReberSource
from chunker.data.tasks import Automaton, Case, Lag, Lag20, Nested, Stream, Task, stream

__all__ = [
    "Adding",
    "Automaton",
    "Case",
    "EmbeddedReber",
    "FirstSymbol",
    "HiddenMarkov",
    "Lag",
    "Lag20",
    "MarkovChain",
    "Nested",
    "ReberSource",
    "Stream",
    "Task",
    "TemporalOrder",
    "VectorCase",
    "legal_next",
    "stream",
]
