"""Models of files: stacks of recurrent levels, as modelfile.py reads and writes them.

A file holds a stack either as trained ("float": float32 tensors) or as coded ("integer": what quantize.py
makes of them, a quarter of the size). The fingerprint is over the configuration and the *integer* tensors,
over all that decides a coded bit and nothing else: a trained file and its quantized copy have the same one,
and either opens the other's archives.

An integer model is read, checked and fingerprinted without numpy, whose import takes longer than all of that.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Mapping
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from chunker.config import StackConfig
from chunker.core.layout import (
    BIAS_LIMIT,
    MATRICES,
    PRODUCT_LIMIT,
    RawTensor,
    float_shapes,
    integer_layout,
    kind,
)
from chunker.errors import ModelNotFound, NotAModel, UsageError
from chunker.models import modelfile
from chunker.models.modelfile import RawTensors

if TYPE_CHECKING:
    from typing import TypeAlias

    from numpy.typing import NDArray

    from chunker.core.levels import IntegerStack

    Tensors = dict[str, NDArray[Any]]
    # A model, or what makes one; the name of a built-in model; a path.
    AnyModel: TypeAlias = "Model | Convertible | str | bytes | os.PathLike[str]"

DEFAULT_MODEL = "text"
BUILTIN = Path(__file__).parent
_MAGNITUDES = bytes(min(byte, 256 - byte) for byte in range(256))  # |q| of an int8's byte


class Convertible(Protocol):
    """What makes a model of itself, such as chunker.learning's Stack."""

    def to_model(self) -> Model:
        """The model."""


class Model:
    """A model at hand: its configuration, its tensors, and its integer model.

    name: "text" for the built-in, else the file's stem. summary: what training wrote down (free JSON).
    """

    def __init__(
        self, name: str, path: Path, config: StackConfig, summary: dict[str, Any], tensors: RawTensors
    ) -> None:
        self.name, self.path, self.config, self.summary = name, path, config, summary
        self._tensors = tensors
        self.is_float = "thresholds_bits" in tensors

    @cached_property
    def raw_tensors(self) -> RawTensors:
        """The integer model's tensors, by name, as they lie in a file."""
        return raw(self.integer_tensors) if self.is_float else self._tensors

    @cached_property
    def integer_tensors(self) -> Tensors:
        """The integer model's tensors, by name. Raises NotAModel if the weights of a stack that was neither
        saved nor loaded are beyond what integers hold."""
        from chunker.core.quantize import quantize

        return quantize(_arrays(self._tensors)) if self.is_float else _arrays(self._tensors)

    @property
    def float_tensors(self) -> Tensors:
        """The float tensors; of an integer model the nearest ones."""
        from chunker.core.quantize import dequantize

        return _arrays(self._tensors) if self.is_float else dequantize(self.integer_tensors)

    @cached_property
    def fingerprint(self) -> bytes:
        """32 bytes over configuration and integer tensors (blake2b)."""
        return fingerprint(self.config, self.raw_tensors)

    @cached_property
    def _integer_stack(self) -> IntegerStack:
        from chunker.core.levels import IntegerStack

        return IntegerStack(self.config, self.integer_tensors)

    def integer_stack(self) -> IntegerStack:
        """The integer model in numpy; made once."""
        return self._integer_stack

    @property
    def parameters(self) -> int:
        """Trained numbers in the model."""
        kept = (t for name, t in self.raw_tensors.items() if not name.endswith(".multiplier"))
        return sum(len(t.data) // _size(t.dtype) for t in kept)


def raw(tensors: Mapping[str, NDArray[Any]]) -> RawTensors:
    """numpy's arrays as they lie in a file."""
    found = {}
    for name, tensor in tensors.items():
        dtype = tensor.dtype.newbyteorder("<")
        found[name] = RawTensor(dtype.str, tensor.shape, tensor.astype(dtype, order="C").tobytes())
    return found


def _arrays(tensors: RawTensors) -> Tensors:
    import numpy as np

    return {name: np.frombuffer(t.data, dtype=t.dtype).reshape(t.shape) for name, t in tensors.items()}


def fingerprint(config: StackConfig, tensors: RawTensors) -> bytes:
    """32 bytes over everything that decides a coded bit, if these are integer tensors."""
    return modelfile.digest(config.to_json(), tensors)


def builtin_models() -> list[str]:
    """Names of the models that come with the package, the default first."""
    names = sorted(path.stem for path in BUILTIN.glob("*.safetensors"))
    return sorted(names, key=lambda name: name != DEFAULT_MODEL)


@cache
def builtin_fingerprint(name: str) -> bytes:
    """Of a built-in model, as its file tells it: loading the model checks that."""
    return bytes.fromhex(modelfile.checksum(BUILTIN / f"{name}.safetensors"))


def load_model(name_or_path: str | bytes | os.PathLike[str] | None = None) -> Model:
    """A built-in model by name, or a model file by path; None is the default model.

    A string is a path if it has a separator or a suffix, and otherwise a name,
    whatever lies in the current folder.

    Raises
    ------
    ModelNotFound: there is none. NotAModel: cut, damaged, or no model. ModelVersionError: too new.
    """
    wanted = DEFAULT_MODEL if name_or_path is None else os.fsdecode(name_or_path)
    path = Path(wanted)
    if not isinstance(name_or_path, os.PathLike) and not path.suffix and path.name == wanted:
        if wanted in builtin_models():
            return _load(BUILTIN / f"{wanted}.safetensors", wanted)
        known = ", ".join(builtin_models()) or "none"
        raise ModelNotFound(f"no built-in model {wanted!r} (there is {known}); write a file as ./{wanted}")
    modelfile.find(path, wanted)
    return _load(path, path.stem)


def loaded(model: AnyModel) -> Model:
    """The model itself.

    Raises
    ------
    ModelNotFound, NotAModel, ModelVersionError: as `load_model`. UsageError: it is nothing of the kind.
    """
    if isinstance(model, (str, bytes, os.PathLike)):
        return load_model(model)
    if hasattr(model, "to_model"):
        model = model.to_model()
    if not hasattr(model, "fingerprint"):
        raise UsageError(f"model {model!r} is none: give a built-in's name, a file, a Model or a Stack")
    return model


def save_model(
    path: str | os.PathLike[str], tensors: Tensors, config: StackConfig, summary: dict[str, Any]
) -> None:
    """Write a model file, float or integer as its tensors are; whole or not at all.

    Raises
    ------
    OSError: the folder cannot be written to. NotAModel: the tensors do not fit the configuration, or hold
        what no model can. UsageError: the path is that of a device, say, or of a directory.
    """
    stored = raw(tensors)
    _check_tensors(Path(path), config, stored)
    modelfile.write(Path(path), "stack", config.to_json(), stored, summary)


def _load(path: Path, name: str) -> Model:
    content = modelfile.read(path, "stack")
    try:
        config = StackConfig.from_json(content.config)
    except UsageError as error:
        raise modelfile.unreadable(path, error) from error
    _check_tensors(path, config, content.tensors)
    found = fingerprint(config, content.tensors)
    content.check(path, found)
    model = Model(name, path, config, content.summary, content.tensors)
    if not model.is_float:
        model.__dict__["fingerprint"] = found
    return model


# ---- whether tensors are a model's -----------------------------------------------------------------


def _size(dtype: str) -> int:
    return int(dtype[2:])


def _check_tensors(path: Path, config: StackConfig, tensors: RawTensors) -> None:
    """Raises NotAModel."""
    found = {name: (t.dtype, t.shape) for name, t in tensors.items()}
    if found == integer_layout(config):
        _check_integers(path, tensors)
    elif found == {name: ("<f4", shape) for name, shape in float_shapes(config).items()}:
        _check_floats(path, tensors)
    else:
        raise NotAModel(f"{path}: the tensors do not fit the model's configuration; fetch or train it again")


def _check_floats(path: Path, tensors: RawTensors) -> None:
    """That they are finite, and not beyond what integers hold."""
    from chunker.core.quantize import quantize

    try:
        quantize(_arrays(tensors))
    except NotAModel as error:
        raise NotAModel(f"{path}: {error}; train it again with a lower learning rate") from error


def _check_integers(path: Path, tensors: RawTensors) -> None:
    """That no sum leaves the range that integer arithmetic allows for, whatever the states are."""
    for name, tensor in tensors.items():
        if name.endswith(".q"):
            sound = b"\x80" not in tensor.data  # -128
        elif name.endswith(".multiplier"):
            multipliers = tensor.integers()
            sound = min(multipliers, default=1) >= 1
            if sound and kind(name) in MATRICES:
                sound = _products_fit(tensors[name.removesuffix("multiplier") + "q"], multipliers)
        elif name == "thresholds":
            sound = min(tensor.integers(), default=0) >= 0
        else:
            values = tensor.integers()
            sound = min(values) > -BIAS_LIMIT and max(values) < BIAS_LIMIT
        if not sound:
            raise NotAModel(f"{path}: tensor {name} holds values that no model has; fetch it again")


def _products_fit(q: RawTensor, multipliers: array[int]) -> bool:
    """Whether 127 * sum_k |q_kj| * multiplier_j < 2**50 for every column j of a matrix (K, N)."""
    rows, columns = q.shape
    if 127 * 127 * rows * max(multipliers) < PRODUCT_LIMIT:
        return True
    sizes = q.data.translate(_MAGNITUDES)
    return all(127 * sum(sizes[j::columns]) * multipliers[j] < PRODUCT_LIMIT for j in range(columns))
