"""The file that every kind of model lies in: safetensors with one metadata key of canonical JSON.

    {"checksum": .., "config": {..}, "kind": .., "summary": {..}, "version": 1}

The checksum is over the configuration and the tensors, and finds damage. The kind says what the rest means; a
file of a stack has none. Reading needs no numpy.
"""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from chunker.config import canonical_json, parse_json
from chunker.core.layout import RawTensor
from chunker.errors import ModelNotFound, ModelVersionError, NotAModel
from chunker.wholefile import write_whole

VERSION = 1
METADATA_KEY = "chunker"
MAX_HEADER = 2**20  # of JSON in a safetensors file; checked before it is read

# Kind -> what it is called, and what it is for.
KINDS = {
    "stack": ("a model of files", "compress files with it (`chunker compress -m`)"),
    "records": ("a model of records", "use it with chunker.RecordCodec or `chunker records`"),
}

# Types of safetensors and numpy's names for them, little-endian; the last digit is a value's bytes.
_TYPES = {"I8": "|i1", "I32": "<i4", "F32": "<f4", "U8": "|u1"}

RawTensors = dict[str, RawTensor]


class Content(NamedTuple):
    """What a model file holds. summary: what training wrote down, free JSON."""

    config: dict[str, Any]
    summary: dict[str, Any]
    tensors: RawTensors
    checksum: str

    def check(self, path: Path, digest: bytes) -> None:
        """Raise NotAModel unless the file's checksum is this one."""
        if digest.hex() != self.checksum:
            raise NotAModel(f"{path} is damaged (it fails its checksum); fetch it again")


def digest(config: Mapping[str, Any], tensors: Mapping[str, RawTensor]) -> bytes:
    """32 bytes over configuration and tensors (BLAKE2b)."""
    hasher = hashlib.blake2b(digest_size=32, person=b"chunker model v1")
    hasher.update(canonical_json(config).encode())
    for name, tensor in sorted(tensors.items()):
        hasher.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        hasher.update(tensor.data)
    return hasher.digest()


def find(path: Path, named: str) -> None:
    """Raise ModelNotFound unless there is a regular file of that path. named: how the user wrote it."""
    if path.is_file():
        return
    if path.is_dir():
        raise ModelNotFound(f"{named} is a directory; name the model file in it")
    if path.exists():
        raise ModelNotFound(f"{named} is no regular file, as a model has to be; name another")
    raise ModelNotFound(f"no model file {named!r}; check the name")


def read(path: Path, kind: str) -> Content:
    """What a file of that kind holds; the checksum is still to be compared.

    Raises
    ------
    NotAModel: cut, no model, or one of another kind. ModelVersionError: too new. OSError.
    """
    header, tensors = _read(path)
    fields = _fields(path, header)
    found = fields.get("kind", "stack")
    if found != kind:
        name, use = KINDS.get(str(found), (f"a model of another kind ({_brief(found)})", "upgrade chunker"))
        raise NotAModel(f"{path} is {name}, and here one is needed that is {KINDS[kind][0]}; {use}")
    try:
        return Content(dict(fields["config"]), dict(fields["summary"]), tensors, str(fields["checksum"]))
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable(path, error) from error


def checksum(path: Path) -> str:
    """The checksum that a file states, in hexadecimal; nothing else of it is read, and nothing checked.

    Raises
    ------
    NotAModel, ModelVersionError, OSError.
    """
    with open(path, "rb") as file:
        fields = _fields(path, _header(path, file))
    return str(fields.get("checksum"))


def unreadable(path: Path, error: Exception) -> NotAModel:
    """The error of a description that makes no sense."""
    return NotAModel(f"{path}: the model's description cannot be read ({_line(error)}); fetch it again")


def write(
    path: Path, kind: str, config: dict[str, Any], tensors: RawTensors, summary: dict[str, Any]
) -> None:
    """Write a model file, whole or not at all.

    Raises
    ------
    OSError: the folder cannot be written to. UsageError: the path is that of a device or directory.
    """
    import numpy as np
    from safetensors.numpy import save

    fields = {
        "checksum": digest(config, tensors).hex(),
        "config": config,
        "summary": summary,
        "version": VERSION,
    }
    if kind != "stack":
        fields["kind"] = kind
    arrays = {
        name: np.frombuffer(t.data, dtype=t.dtype).reshape(t.shape) for name, t in sorted(tensors.items())
    }
    write_whole(path, save(arrays, metadata={METADATA_KEY: canonical_json(fields)}))


def _no_model_file(path: Path, reason: object) -> NotAModel:
    return NotAModel(f"{path} is not a model file, or is cut ({reason}); fetch it again")


def _line(error: Exception) -> str:
    """What an error says, which may quote the file, on one line."""
    return repr(str(error))[1:-1][:400]


def _brief(value: object) -> str:
    """Something out of a file, so that it can be shown: on one line, and short."""
    return repr(value)[:40]


def _read(path: Path) -> tuple[dict[str, Any], RawTensors]:
    """The header of a file that looks like a model's, and its tensors. Raises NotAModel.

    Not by the library of safetensors, which ends or hangs the process where it finds no memory, and copies
    each tensor twice.
    """
    with open(path, "rb") as file:
        header = _header(path, file)
        try:
            tensors = [(n, *_described(entry)) for n, entry in header.items() if n != "__metadata__"]
        except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
            raise _no_model_file(path, error) from error
        tensors.sort(key=lambda tensor: tensor[3])
        begin = file.tell()
        size = file.seek(0, os.SEEK_END) - begin
        claimed = max((end for *_, end in tensors), default=0)
        if size != claimed:
            raise _no_model_file(path, f"it has {size:,} bytes of tensors, and says that it has {claimed:,}")
        file.seek(begin)
        found, at = {}, 0
        for name, dtype, shape, first, end in tensors:
            if (first, end) != (at, at + math.prod(shape) * int(dtype[-1])):
                raise _no_model_file(path, f"tensor {_brief(name)} does not lie where it should")
            found[name] = RawTensor(dtype, shape, file.read(end - first))
            at = end
        return header, found


def _header(path: Path, file: BinaryIO) -> dict[str, Any]:
    """The JSON at the start of a file. Raises NotAModel."""
    n_bytes = int.from_bytes(file.read(8), "little")
    if not 2 <= n_bytes <= MAX_HEADER:
        raise NotAModel(f"{path} is not a model file; models are made by `chunker train`")
    try:
        return dict(parse_json(file.read(n_bytes)))
    except (TypeError, ValueError) as error:
        raise _no_model_file(path, error) from error


def _described(entry: Mapping[str, Any]) -> tuple[str, tuple[int, ...], int, int]:
    """Type, shape, first byte and end of a tensor in a header. Raises what a wrong one leads to."""
    first, end = entry["data_offsets"]
    shape = entry["shape"]
    for number in (*shape, first, end):
        if type(number) is not int or not 0 <= number < 2**63:
            raise ValueError(f"{_brief(number)} is no size")
    if entry["dtype"] not in _TYPES:
        raise ValueError(f"a tensor of type {_brief(entry['dtype'])}")
    return _TYPES[entry["dtype"]], tuple(shape), first, end


def _fields(path: Path, header: Mapping[str, Any]) -> dict[str, Any]:
    """The metadata, of a version that is known. Raises NotAModel, ModelVersionError."""
    metadata = (header.get("__metadata__") or {}).get(METADATA_KEY)
    if metadata is None:
        raise NotAModel(f"{path} is a safetensors file but not a chunker model; see `chunker train`")
    try:
        fields = parse_json(metadata)
        version = fields["version"]
    except (KeyError, TypeError, ValueError) as error:
        raise unreadable(path, error) from error
    if not isinstance(version, int) or not 1 <= version <= VERSION:
        raise ModelVersionError(
            f"{path} is a model of format {_brief(version)}, this chunker reads up to {VERSION}; "
            "upgrade chunker"
        )
    return dict(fields)
