"""Checkpoints: everything that training goes on from, in one safetensors file.

Tensors keep their names; everything else is canonical JSON under the metadata key "chunker". Nothing is
pickled, so loading an untrusted checkpoint runs no code. Written to a temporary file and renamed.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from chunker.config import StackConfig, canonical_json, parse_json
from chunker.errors import CheckpointError
from chunker.learning.claims import check_fits
from chunker.learning.stack import Stack
from chunker.wholefile import write_whole

_KEY = "chunker"
_FORMAT = "training checkpoint"
VERSION = 1


def checkpoint_path(model: Path) -> Path:
    """Where the checkpoint of a model that is being trained lies: beside it."""
    return model.with_name(model.name + ".checkpoint")


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and JSON values; the old checkpoint stays until the new one is complete.

    Raises OSError if the file cannot be written.
    """
    metadata = {_KEY: canonical_json({"format": _FORMAT, "version": VERSION, **facts})}
    # Copies: states may be views of larger tensors, which safetensors refuses.
    content = save({name: tensor.detach().cpu().clone() for name, tensor in tensors.items()}, metadata)
    write_whole(path, content)


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors (on the CPU) and JSON values of a checkpoint.

    Raises CheckpointError if there is none, or it is damaged, no checkpoint, or of a newer version.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            facts = parse_json((file.metadata() or {})[_KEY])
            if facts["format"] != _FORMAT:
                raise CheckpointError(f"{path}: is not a checkpoint; begin anew (--force)")
            if facts["version"] > VERSION:
                raise CheckpointError(f"{path}: was written by a newer version of chunker; update chunker")
            # Copies: as they lie in the file they are not aligned, and then some products round otherwise.
            return {name: file.get_tensor(name).clone() for name in file.keys()}, facts  # noqa: SIM118
    except FileNotFoundError as exc:
        raise CheckpointError(f"{path}: no such checkpoint; start without --resume") from exc
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as exc:
        raise CheckpointError(f"{path}: is damaged or no checkpoint; begin anew (--force)") from exc


def held_stack(config: StackConfig, tensors: Mapping[str, Tensor]) -> Stack:
    """A stack of a checkpoint's configuration, whose weights, among its tensors, are still to be loaded.

    Raises CheckpointError, before the stack takes memory, if they are too few for it.
    """
    try:
        check_fits(lambda: Stack(config), tensors.values())
    except (ValueError, RuntimeError) as exc:
        raise CheckpointError(
            f"the checkpoint claims levels that it does not hold ({exc}); begin anew (--force)"
        ) from exc
    return Stack(config)


def part(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors `name/...`, without that prefix."""
    return {key.partition("/")[2]: t for key, t in tensors.items() if key.partition("/")[0] == name}
