"""The average of models that were trained from one beginning: often better than each, and as fast.

Izmailov et al. 2018, Averaging Weights Leads to Wider Optima; Wortsman et al. 2022, Model soups.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from chunker.errors import UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from chunker.models import Model, Tensors


def average(models: Sequence[Model], weights: Sequence[float] | None = None) -> Tensors:
    """The float tensors of the weighted mean; `save_model` writes them with the configuration of any of them.

    weights: one for each model, above 0; only their ratios count. Equal ones where they are left out.

    Raises
    ------
    UsageError: there are fewer than two models, their configurations differ, or a weight is wrong.
    """
    weights = _given(models, weights)
    if len(models) < 2:
        raise UsageError("an average is of two models or more: name another one")
    if any(model.config != models[0].config for model in models):
        raise UsageError("only models of one configuration can be averaged: levels, cell and inputs differ")
    if len(weights) != len(models) or not all(math.isfinite(w) and w > 0 for w in weights):
        raise UsageError(f"weights are {len(models)} numbers above 0, one for each model")
    found, total = [model.float_tensors for model in models], sum(weights)

    def mean(name: str) -> NDArray[Any]:
        summed = sum(tensors[name] * (w / total) for tensors, w in zip(found, weights, strict=True))
        return np.asarray(summed, found[0][name].dtype)

    return {name: mean(name) for name in found[0]}


def lineage(models: Sequence[Model], weights: Sequence[float] | None = None) -> dict[str, Any]:
    """Of what the average is one, for the summary of its file."""
    each = zip(models, _given(models, weights), strict=True)
    return {"average_of": [{"fingerprint": m.fingerprint.hex()[:16], "weight": w} for m, w in each]}


def _given(models: Sequence[Model], weights: Sequence[float] | None) -> list[float]:
    """The weights, equal ones where they were left out."""
    return [1.0] * len(models) if weights is None else list(weights)
