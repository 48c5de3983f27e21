"""Model files: safetensors with one metadata key of canonical JSON.

A checksum over everything finds damage; a damaged model would make archives that no sound one opens.

A file holds a stack either as trained ("float": float32 tensors) or as coded ("integer": what freeze.py
makes of them, a quarter of the size). The fingerprint is over the configuration and the *integer* tensors,
over all that decides a coded bit and nothing else: a trained file and its frozen copy have the same one, and
either opens the other's archives.

A file may leave out tensors that a built-in model has as well: a student that reads the n-grams of `text`
need not carry them. Checksum and fingerprint are over all tensors all the same.
"""

from __future__ import annotations

import hashlib
import json
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from chunker.config import StackConfig, canonical_json
from chunker.errors import ModelNotFound, ModelVersionError, NotAModel, UsageError
from chunker.wholefile import write_whole

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from chunker.core.levels import IntegerStack

    Tensors = dict[str, NDArray[Any]]

VERSION = 2
_VERSION_WHOLE = 1  # of files that hold all their tensors
METADATA_KEY = "chunker"
DEFAULT_MODEL = "text"
BUILTIN = Path(__file__).parent / "models"
MAX_HEADER = 2**20  # of JSON in a safetensors file; checked before it is read


class Model:
    """A model at hand: its configuration, its tensors, its coder.

    name: "text" for the built-in, else the file's stem. summary: what training wrote down (free JSON).
    """

    def __init__(self, name: str, path: Path, config: StackConfig, summary: dict[str, Any], tensors: Tensors):
        self.name, self.path, self.config, self.summary = name, path, config, summary
        self._tensors = tensors
        self.is_float = "thresholds_bits" in tensors

    @cached_property
    def integer_tensors(self) -> Tensors:
        """The integer twin's tensors, by name."""
        from chunker.core.quantize import freeze

        return freeze(self._tensors) if self.is_float else self._tensors

    @property
    def float_tensors(self) -> Tensors:
        """The float tensors; of an integer model the nearest ones."""
        from chunker.core.quantize import thaw

        return self._tensors if self.is_float else thaw(self._tensors)

    @cached_property
    def fingerprint(self) -> bytes:
        """32 bytes over configuration and integer tensors (blake2b)."""
        return fingerprint(self.config, self.integer_tensors)

    @cached_property
    def _integer_stack(self) -> IntegerStack:
        from chunker.core.levels import IntegerStack

        return IntegerStack(self.config, self.integer_tensors)

    def integer_stack(self) -> IntegerStack:
        """The coder; made once."""
        return self._integer_stack

    @property
    def parameters(self) -> int:
        """Trained numbers in the model."""
        return sum(t.size for name, t in self.integer_tensors.items() if not name.endswith(".scale"))


def fingerprint(config: StackConfig, tensors: Tensors) -> bytes:
    """32 bytes over everything that decides a coded bit."""
    hasher = hashlib.blake2b(digest_size=32, person=b"chunker model v1")
    hasher.update(canonical_json(config.to_json()).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        hasher.update(f"\n{name} {tensor.dtype.str} {list(tensor.shape)}\n".encode())
        hasher.update(tensor.astype(tensor.dtype.newbyteorder("<"), order="C").tobytes())
    return hasher.digest()


def builtin_models() -> list[str]:
    """Names of the models that come with the package, the default first."""
    names = sorted(path.stem for path in BUILTIN.glob("*.safetensors"))
    return sorted(names, key=lambda name: name != DEFAULT_MODEL)


def load_model(name_or_path: str | os.PathLike[str] | None = None) -> Model:
    """A built-in model by name, or a model file by path; None is the default model.

    Raises
    ------
    ModelNotFound: neither exists. NotAModel: cut, damaged, or no model. ModelVersionError: too new.
    """
    wanted = DEFAULT_MODEL if name_or_path is None else os.fspath(name_or_path)
    path = Path(wanted)
    if wanted in builtin_models() and (name_or_path is None or not path.is_file()):
        return _load(BUILTIN / f"{wanted}.safetensors", wanted)
    if not path.is_file():
        if path.is_dir():
            raise ModelNotFound(f"{wanted} is a directory; name the model file in it")
        if path.exists():
            raise ModelNotFound(f"{wanted} is no regular file, as a model has to be; name another")
        known = ", ".join(builtin_models()) or "none"
        raise ModelNotFound(f"no model file {wanted!r}; give a path, or a built-in model ({known})")
    return _load(path, path.stem)


def save_stack(
    path: str | os.PathLike[str],
    tensors: Tensors,
    config: StackConfig,
    summary: dict[str, Any],
    shared: str | None = None,
) -> None:
    """Write a model file, float or integer as its tensors are; whole or not at all.

    shared: a built-in model; integer tensors that are the same there are left out.

    Raises
    ------
    OSError: the folder cannot be written to. NotAModel: the tensors do not fit the configuration.
    UsageError: nothing is the same in the model `shared`; the path is that of a device, say, or of a directory.
    """
    from safetensors.numpy import save

    _check_tensors(Path(path), config, tensors)
    checksum = fingerprint(config, tensors).hex()
    fields = {"checksum": checksum, "config": config.to_json(), "summary": summary, "version": _VERSION_WHOLE}
    kept = sorted(tensors)
    if shared is not None:
        elsewhere = _alike(tensors, shared)
        fields |= {"shared": {"model": shared, "tensors": elsewhere}, "version": VERSION}
        kept = [name for name in kept if name not in elsewhere]
    blob = save({name: tensors[name] for name in kept}, metadata={METADATA_KEY: canonical_json(fields)})
    write_whole(path, blob)


def _alike(tensors: Tensors, builtin: str) -> list[str]:
    """Names of the tensors that are the same in a built-in model."""
    import numpy as np

    if builtin not in builtin_models():
        raise UsageError(f"{builtin!r} is not a built-in model; these are: {', '.join(builtin_models())}")
    theirs = load_model(BUILTIN / f"{builtin}.safetensors").integer_tensors
    names = [n for n in sorted(tensors) if n in theirs and tensors[n].dtype == theirs[n].dtype]
    names = [n for n in names if np.array_equal(tensors[n], theirs[n])]
    if not names:
        raise UsageError(f"nothing is the same in the built-in model {builtin!r}")
    return names


def load_stack_tensors(path: str | os.PathLike[str]) -> tuple[StackConfig, Tensors, dict[str, Any]]:
    """Configuration, float tensors and training summary of a model file."""
    model = load_model(path)
    return model.config, model.float_tensors, model.summary


def _load(path: Path, name: str) -> Model:
    from safetensors import SafetensorError, safe_open

    try:
        _check_header(path)
        with safe_open(path, framework="np") as file:
            metadata = (file.metadata() or {}).get(METADATA_KEY)
            if metadata is None:
                raise NotAModel(f"{path} is a safetensors file but not a chunker model; see `chunker train`")
            fields = _parse(path, metadata)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise NotAModel(f"{path} is not a model file, or is cut ({error}); fetch it again") from error
    if fields.shared is not None:
        tensors |= _shared_tensors(path, *fields.shared)
    _check_tensors(path, fields.config, tensors)
    if fingerprint(fields.config, tensors).hex() != fields.checksum:
        more = "" if fields.shared is None else f", or its chunker had another model {fields.shared[0]!r}"
        raise NotAModel(f"{path} is damaged (it fails its checksum){more}; fetch it again")
    return Model(name, path, fields.config, fields.summary, tensors)


def _shared_tensors(path: Path, builtin: str, names: list[str]) -> Tensors:
    """Tensors of a built-in model; they are covered by the checksum of the file that needs them."""
    from safetensors import safe_open

    if builtin not in builtin_models():
        raise ModelNotFound(
            f"{path} goes with a built-in model {builtin!r}, which this chunker lacks; upgrade chunker"
        )
    with safe_open(BUILTIN / f"{builtin}.safetensors", framework="np") as file:
        there = file.keys()
        return {name: file.get_tensor(name) for name in names if name in there}


def _check_header(path: Path) -> None:
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= MAX_HEADER:
        raise NotAModel(f"{path} is not a model file; models are made by `chunker train`")


class _Fields(NamedTuple):
    """What the metadata of a model file tells."""

    config: StackConfig
    summary: dict[str, Any]
    checksum: str
    shared: tuple[str, list[str]] | None  # a built-in model, and which of its tensors belong to this one


def _parse(path: Path, metadata: str) -> _Fields:
    """Raises NotAModel, ModelVersionError."""
    try:
        fields = json.loads(metadata)
        version = fields["version"]
        if not isinstance(version, int) or version > VERSION:
            raise ModelVersionError(
                f"{path} is a model of format {version}, this chunker reads up to {VERSION}; upgrade chunker"
            )
        shared = fields.get("shared")
        if shared is not None:
            shared = str(shared["model"]), [str(name) for name in shared["tensors"]]
        config = StackConfig.from_json(fields["config"])
        return _Fields(config, dict(fields["summary"]), str(fields["checksum"]), shared)
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise NotAModel(
            f"{path}: the model's description cannot be read ({error}); fetch it again"
        ) from error


def _check_tensors(path: Path, config: StackConfig, tensors: Tensors) -> None:
    import numpy as np

    from chunker.core.quantize import SMALLEST_SCALE, float_shapes, integer_layout

    found = {name: (t.dtype, t.shape) for name, t in tensors.items()}
    as_float = {name: (np.dtype("<f4"), shape) for name, shape in float_shapes(config).items()}
    if found not in (as_float, integer_layout(config)):
        raise NotAModel(f"{path}: the tensors do not fit the model's configuration; fetch or train it again")
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise NotAModel(f"{path}: tensor {name} holds values that are not finite; train it again")
        if name.endswith(".scale") and (tensor < SMALLEST_SCALE).any():
            raise NotAModel(f"{path}: tensor {name} holds values that are no scales; fetch it again")
