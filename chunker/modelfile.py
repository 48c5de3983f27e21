"""Model files: safetensors with one metadata key of canonical JSON.

A checksum over everything finds damage; a damaged model would make archives that no sound one opens.

A file holds a stack either as trained ("float": float32 tensors) or as coded ("integer": what freeze.py
makes of them, a quarter of the size). The fingerprint is over the configuration and the *integer* tensors,
over all that decides a coded bit and nothing else: a trained file and its frozen copy have the same one, and
either opens the other's archives.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chunker.config import StackConfig, canonical_json
from chunker.errors import ModelNotFound, ModelVersionError, NotAModel, UsageError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from chunker.coding.twin import IntegerStack

    Tensors = dict[str, NDArray[Any]]

VERSION = 1
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
        from chunker.coding.freeze import freeze

        return freeze(self._tensors) if self.is_float else self._tensors

    @property
    def float_tensors(self) -> Tensors:
        """The float tensors; of an integer model the nearest ones."""
        from chunker.coding.freeze import thaw

        return self._tensors if self.is_float else thaw(self._tensors)

    @cached_property
    def fingerprint(self) -> bytes:
        """32 bytes over configuration and integer tensors (blake2b)."""
        return fingerprint(self.config, self.integer_tensors)

    @cached_property
    def _integer_stack(self) -> IntegerStack:
        from chunker.coding.twin import IntegerStack

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
        known = ", ".join(builtin_models()) or "none"
        raise ModelNotFound(f"no model file {wanted!r}; give a path, or a built-in model ({known})")
    return _load(path, path.stem)


def save_stack(
    path: str | os.PathLike[str], tensors: Tensors, config: StackConfig, summary: dict[str, Any]
) -> None:
    """Write a model file, float or integer as its tensors are; whole or not at all.

    Raises
    ------
    OSError: the folder cannot be written to. NotAModel: the tensors do not fit the configuration.
    """
    from safetensors.numpy import save

    _check_tensors(Path(path), config, tensors)
    checksum = fingerprint(config, tensors).hex()
    fields = {"checksum": checksum, "config": config.to_json(), "summary": summary, "version": VERSION}
    blob = save(
        {name: tensors[name] for name in sorted(tensors)}, metadata={METADATA_KEY: canonical_json(fields)}
    )
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
            config, summary, checksum = _parse(path, metadata)
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (no mapping)
    except SafetensorError as error:
        raise NotAModel(f"{path} is not a model file, or is cut ({error}); fetch it again") from error
    _check_tensors(path, config, tensors)
    if fingerprint(config, tensors).hex() != checksum:
        raise NotAModel(f"{path} is damaged (it fails its checksum); fetch it again")
    return Model(name, path, config, summary, tensors)


def _check_header(path: Path) -> None:
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if not 2 <= length <= MAX_HEADER:
        raise NotAModel(f"{path} is not a model file; models are made by `chunker train`")


def _parse(path: Path, metadata: str) -> tuple[StackConfig, dict[str, Any], str]:
    """Configuration, summary and checksum. Raises NotAModel, ModelVersionError."""
    try:
        fields = json.loads(metadata)
        version = fields["version"]
        if not isinstance(version, int) or version > VERSION:
            raise ModelVersionError(
                f"{path} is a model of format {version}, this chunker reads up to {VERSION}; upgrade chunker"
            )
        return StackConfig.from_json(fields["config"]), dict(fields["summary"]), str(fields["checksum"])
    except (KeyError, TypeError, ValueError, UsageError) as error:
        raise NotAModel(
            f"{path}: the model's description cannot be read ({error}); fetch it again"
        ) from error


def _check_tensors(path: Path, config: StackConfig, tensors: Tensors) -> None:
    import numpy as np

    from chunker.coding.freeze import SMALLEST_SCALE, float_shapes, integer_layout

    found = {name: (t.dtype, t.shape) for name, t in tensors.items()}
    as_float = {name: (np.dtype("<f4"), shape) for name, shape in float_shapes(config).items()}
    if found not in (as_float, integer_layout(config)):
        raise NotAModel(f"{path}: the tensors do not fit the model's configuration; fetch or train it again")
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise NotAModel(f"{path}: tensor {name} holds values that are not finite; train it again")
        if name.endswith(".scale") and (tensor < SMALLEST_SCALE).any():
            raise NotAModel(f"{path}: tensor {name} holds values that are no scales; fetch it again")
