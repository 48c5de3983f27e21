"""Fitted classifiers in one safetensors file with canonical JSON as metadata: loading it runs no code of the file.

The metadata hold parameters, classes, preparation, and the shape of everything; the tensors are named
`stack.I.NAME`, `head.M.NAME`, `linear.NAME`, `contexts.NAME`. A checksum over all of it finds damage.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from chunker.classification.contexts import ContextCounts, RandomKernels
from chunker.classification.estimators import HistoryClassifier
from chunker.classification.growing import LevelReport
from chunker.classification.heads import Head
from chunker.classification.history import HistoryLevel, HistoryStack
from chunker.classification.inputs import Array, Preparation
from chunker.classification.linear import LinearModel, NaiveBayes
from chunker.classification.medium import HistoryGate, Medium
from chunker.config import canonical_json
from chunker.errors import ModelNotFound, ModelVersionError, NotAModel, UsageError

VERSION = 2
METADATA_KEY = "chunker-classifier"
MAX_HEADER = 2**26  # bytes of JSON; read only after this check
PARAMETER_TYPES = (bool, int, float, str, type(None))


def save_classifier(path: str | os.PathLike[str], model: HistoryClassifier) -> None:
    """Write a fitted classifier, whole or not at all.

    Raises
    ------
    OSError: the folder cannot be written to. UsageError: classes are neither numbers nor strings.
    """
    from safetensors.numpy import save

    tensors = _tensors(model)
    fields = _description(model)
    fields["checksum"] = _checksum(fields, tensors)
    blob = save(tensors, metadata={METADATA_KEY: canonical_json(fields)})
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(blob)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def load_classifier(path: str | os.PathLike[str]) -> HistoryClassifier:
    """The classifier that `save_classifier` wrote, which predicts the same.

    Raises
    ------
    ModelNotFound: there is no such file. NotAModel: cut, damaged, or something else. ModelVersionError: too new.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).is_file():
        raise ModelNotFound(f"no classifier {os.fspath(path)!r}; make one with `chunker classify fit`")
    try:
        with open(path, "rb") as file:
            if not 2 <= int.from_bytes(file.read(8), "little") <= MAX_HEADER:
                raise NotAModel(f"{path} is no classifier; make one with `chunker classify fit`")
        with safe_open(path, framework="np") as opened:
            text = (opened.metadata() or {}).get(METADATA_KEY)
            if text is None:
                raise NotAModel(f"{path} is no classifier; make one with `chunker classify fit`")
            fields = json.loads(text)
            if int(fields["version"]) > VERSION:
                raise ModelVersionError(f"{path} was made by a newer chunker; upgrade chunker")
            if int(fields["version"]) < VERSION:
                raise ModelVersionError(f"{path} was made by an older chunker; fit it again")
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
        checksum = fields.pop("checksum")
        if checksum != _checksum(fields, tensors):
            raise NotAModel(f"{path} is damaged (it fails its checksum); fit it again")
        return _build(fields, tensors)
    except SafetensorError as error:
        raise NotAModel(f"{path} is no classifier, or is cut ({error}); fit it again") from error
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise NotAModel(f"{path}: the classifier cannot be read ({error}); fit it again") from error


def _checksum(fields: dict[str, Any], tensors: dict[str, Array]) -> str:
    digest = hashlib.sha256(canonical_json(fields).encode("ascii"))
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
        digest.update(np.ascontiguousarray(tensor).tobytes())
    return digest.hexdigest()


def _description(model: HistoryClassifier) -> dict[str, Any]:
    parameters = model.get_params(deep=False)
    parameters["levels"] = [int(width) for width in model.levels]
    seed = parameters["random_state"]
    parameters["random_state"] = int(seed) if isinstance(seed, int | np.integer) else None
    for name, value in parameters.items():
        if name != "levels" and not isinstance(value, PARAMETER_TYPES):
            parameters[name] = value.item() if hasattr(value, "item") else str(value)
    if model.classes_.dtype.kind not in "biufUO":
        raise UsageError("classes are neither numbers nor strings, so they cannot be saved; rename them")
    contexts = model.contexts_
    return {
        "version": VERSION,
        "parameters": parameters,
        "classes": [c.item() if hasattr(c, "item") else c for c in model.classes_],
        "features_in": getattr(model, "n_features_in_", None),
        "event_share": float(model.event_share_),
        "preparation": model.preparation_.to_json(),
        "medium": model.stack_.medium.to_json(),
        "gate": {"rule": model.stack_.gate.rule, "value": model.stack_.gate.value},
        "thresholds": [float(value) for value in model.stack_.thresholds],
        "widths": list(model.stack_.widths),
        "reports": [[r.width, r.share, _finite(r.bits), r.steps, r.threshold] for r in model.growth_],
        "heads": len(model.heads_),
        "linear": None if model.linear_ is None else float(model.linear_.sharpness),
        "pool": list(model.pool_),
        "dilations": [d for d, _, _ in contexts.groups] if isinstance(contexts, RandomKernels) else None,
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _tensors(model: HistoryClassifier) -> dict[str, Array]:
    found: dict[str, Array] = {}
    for name, tensor in model.stack_.levels.state_dict().items():
        found[f"stack.{name}"] = tensor.numpy()
    for i, head in enumerate(model.heads_):
        for name, tensor in head.state_dict().items():
            found[f"head.{i}.{name}"] = tensor.numpy()
    if model.linear_ is not None:
        found["linear.bias"] = model.linear_.bias
        weights = model.linear_.weights
        if isinstance(model.contexts_, ContextCounts):  # buckets that training never met weigh nothing
            used = np.flatnonzero(model.contexts_.idf)
            found["contexts.used"], found["contexts.idf"] = used, model.contexts_.idf[used]
            weights = weights[used]
        found["linear.weights"] = np.ascontiguousarray(weights)
    if model.bayes_ is not None:
        counted = np.flatnonzero(model.bayes_.weights.any(1))
        found["bayes.used"], found["bayes.weights"] = counted, model.bayes_.weights[counted]
    if isinstance(model.contexts_, RandomKernels):
        for i, (_, kernel, biases) in enumerate(model.contexts_.groups):
            found[f"contexts.{i}.weights"], found[f"contexts.{i}.biases"] = kernel, biases
    return {name: np.ascontiguousarray(tensor) for name, tensor in found.items()}


def _build(fields: dict[str, Any], tensors: dict[str, Array]) -> HistoryClassifier:
    parameters = dict(fields["parameters"])
    parameters["levels"] = tuple(parameters["levels"])
    model = HistoryClassifier(**parameters)
    model.classes_ = np.array(fields["classes"])
    if fields["features_in"] is not None:
        model.n_features_in_ = int(fields["features_in"])
    model.event_share_ = float(fields["event_share"])
    model.preparation_ = Preparation.from_json(fields["preparation"])
    medium = Medium.from_json(fields["medium"])
    gate = HistoryGate(str(fields["gate"]["rule"]), float(fields["gate"]["value"]))
    stack = HistoryStack(medium, parameters["cell"], gate)
    for i, (width, threshold) in enumerate(zip(fields["widths"], fields["thresholds"], strict=True)):
        stack.add(HistoryLevel(medium, int(width), parameters["cell"], timed=i > 0), float(threshold))
    stack.levels.load_state_dict(_part(tensors, "stack."))
    model.stack_ = stack
    model.growth_ = [
        LevelReport(w, s, float("nan") if b is None else b, n, t) for w, s, b, n, t in fields["reports"]
    ]
    model.heads_ = []
    for i in range(int(fields["heads"])):
        head = Head(stack, model.plan(), len(model.classes_)).double()
        head.load_state_dict(_part(tensors, f"head.{i}."))
        model.heads_.append(head.eval().requires_grad_(False))
    model.pool_ = tuple(float(weight) for weight in fields["pool"])
    model.bayes_ = None
    if "bayes.used" in tensors:
        model.bayes_ = NaiveBayes()
        rows = tensors["bayes.weights"]
        model.bayes_.weights = np.zeros((model.context_count(), rows.shape[1]), rows.dtype)
        model.bayes_.weights[tensors["bayes.used"]] = rows
    model.contexts_, model.linear_ = _second_classifier(fields, tensors, model)
    return model


def _second_classifier(
    fields: dict[str, Any], tensors: dict[str, Array], model: HistoryClassifier
) -> tuple[ContextCounts | RandomKernels | None, LinearModel | None]:
    if fields["linear"] is None:
        return None, None
    linear = LinearModel()
    linear.sharpness = float(fields["linear"])
    linear.bias, linear.weights = tensors["linear.bias"], tensors["linear.weights"]
    if fields["dilations"] is not None:
        kernels = RandomKernels(model.features, model.context_count())
        kernels.groups = [
            (int(d), tensors[f"contexts.{i}.weights"], tensors[f"contexts.{i}.biases"])
            for i, d in enumerate(fields["dilations"])
        ]
        return kernels, linear
    sizes = tuple(range(1, model.grams + 1))
    counts = ContextCounts(model.features, sizes, model.context_count(), model.preparation_.text)
    used = tensors["contexts.used"]
    counts.idf = np.zeros(counts.parts * counts.buckets)
    counts.idf[used] = tensors["contexts.idf"]
    weights = np.zeros((len(counts.idf), linear.weights.shape[1]), linear.weights.dtype)
    weights[used] = linear.weights
    linear.weights = weights
    return counts, linear


def _part(tensors: dict[str, Array], prefix: str) -> dict[str, Tensor]:
    names = [name for name in tensors if name.startswith(prefix)]
    return {name.removeprefix(prefix): torch.from_numpy(tensors[name].copy()) for name in names}
