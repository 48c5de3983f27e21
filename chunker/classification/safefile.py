"""Tensors and facts in one safetensors file, with canonical JSON as metadata.

Loading runs no code of the file. A checksum over all of it finds damage; a file is written whole or not at
all.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import numpy as np

from chunker.classification.inputs import Array
from chunker.config import canonical_json, parse_json
from chunker.errors import ModelNotFound, ModelVersionError, NotAModel
from chunker.wholefile import write_whole

VERSION = OLDEST = 5
METADATA_KEY = "chunker-classifier"
LARGEST_WEIGHT = 1e18  # its square still is a float32
MAX_HEADER = 2**26  # bytes of JSON; read only after this check


def write(path: str | os.PathLike[str], fields: dict[str, Any], tensors: dict[str, Array]) -> None:
    """Write facts and tensors.

    Raises
    ------
    NotAModel: a number is not finite, or so large that nothing can be computed with it. What
    `chunker.wholefile.write_whole` raises.
    """
    from safetensors.numpy import save

    fields = {**fields, "version": VERSION}
    _refuse_absurd(path, tensors)
    try:
        fields["checksum"] = _checksum(fields, tensors)
    except ValueError as error:
        raise NotAModel(f"{path}: a number is not finite ({error}); fit it to other data") from error
    blob = save(tensors, metadata={METADATA_KEY: canonical_json(fields)})
    write_whole(path, blob)


def read(path: str | os.PathLike[str]) -> tuple[dict[str, Any], dict[str, Array]]:
    """What `write` wrote.

    Raises
    ------
    ModelNotFound: there is no such file. NotAModel: cut, damaged, something else, or `write` would refuse it.
    ModelVersionError: of another version.
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
            fields = parse_json(text)
            if fields["version"] != VERSION:
                raise ModelVersionError(
                    f"{path} is a classifier's file of version {fields['version']}, and this chunker reads "
                    f"version {VERSION}; use the chunker that wrote it, or fit it again"
                )
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118 (no mapping)
        checksum = fields.pop("checksum")
        if checksum != _checksum(fields, tensors):
            raise NotAModel(f"{path} is damaged (it fails its checksum); fit it again")
        _refuse_absurd(path, tensors)
        return fields, tensors
    except SafetensorError as error:
        raise NotAModel(f"{path} is no classifier, or is cut ({error}); fit it again") from error
    except (KeyError, TypeError, ValueError, IndexError, RuntimeError) as error:
        raise NotAModel(f"{path}: the classifier cannot be read ({error}); fit it again") from error


def _refuse_absurd(path: str | os.PathLike[str], tensors: dict[str, Array]) -> None:
    for name, tensor in tensors.items():
        if tensor.dtype.kind == "f" and not (np.abs(tensor) <= LARGEST_WEIGHT).all():
            raise NotAModel(
                f"{path}: tensor {name} holds numbers that are not finite or absurdly large; fit it again "
                "with a lower learning rate"
            )


def _checksum(fields: dict[str, Any], tensors: dict[str, Array]) -> str:
    digest = hashlib.sha256(canonical_json(fields).encode("ascii"))
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"{name} {tensor.dtype.str} {tensor.shape}".encode())
        digest.update(np.ascontiguousarray(tensor).tobytes())
    return digest.hexdigest()
