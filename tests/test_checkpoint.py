"""Checkpoints: tensors and facts come back, half-written and foreign files do no harm."""

from __future__ import annotations

import json
import os
import pickle

import pytest

torch = pytest.importorskip("torch")

from safetensors.torch import save_file

from chunker.errors import CheckpointError
from chunker.learning.checkpoint import (
    VERSION,
    checkpoint_path,
    load_checkpoint,
    save_checkpoint,
)

TENSORS = {
    "float": torch.randn(3, 4),
    "view": torch.randn(5, 6)[2:4, 1:3],
    "bool": torch.tensor([True, False]),
    "int": torch.tensor([2**40]),
    "bytes": torch.tensor([1, 255], dtype=torch.uint8),
    "scalar": torch.tensor(3.0),
    "empty": torch.zeros(0),
}
FACTS = {"large": 2**127 + 1, "float": 0.1, "text": "é", "nested": [{"a": None}, True]}


def test_what_is_saved_comes_back_bit_for_bit(tmp_path):
    path = tmp_path / "c"
    save_checkpoint(path, TENSORS, FACTS)
    tensors, facts = load_checkpoint(path)
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert {name: facts[name] for name in FACTS} == FACTS


def test_it_lies_beside_the_model(tmp_path):
    assert checkpoint_path(tmp_path / "m.safetensors") == tmp_path / "m.safetensors.checkpoint"


def test_a_failed_save_leaves_the_old_checkpoint_and_nothing_else(tmp_path, monkeypatch):
    path = tmp_path / "c"
    save_checkpoint(path, TENSORS, {"number": 1})

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save_checkpoint(path, TENSORS, {"number": 2})
    assert load_checkpoint(path)[1]["number"] == 1
    assert os.listdir(tmp_path) == ["c"]


def test_a_missing_checkpoint_is_named(tmp_path):
    with pytest.raises(CheckpointError, match="no such checkpoint"):
        load_checkpoint(tmp_path / "missing")


@pytest.mark.parametrize("size", [0, 7, 8, 100, -1])
def test_a_cut_checkpoint_is_refused(tmp_path, size):
    path = tmp_path / "c"
    save_checkpoint(path, TENSORS, FACTS)
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
        load_checkpoint(path)


@pytest.mark.parametrize(
    "metadata",
    [
        None,
        {},
        {"chunker": "no json"},
        {"chunker": "[]"},
        {"chunker": "{}"},
        {"chunker": '{"format":"training checkpoint"}'},
    ],
)
def test_foreign_safetensors_are_refused(tmp_path, metadata):
    save_file(TENSORS | {"view": torch.zeros(1)}, tmp_path / "c", metadata)
    with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
        load_checkpoint(tmp_path / "c")


def test_other_kinds_and_newer_versions_are_told_apart(tmp_path):
    for facts, message in (
        ({"format": "model", "version": 1}, "is not a checkpoint"),
        ({"format": "training checkpoint", "version": VERSION + 1}, "newer version"),
    ):
        save_file({"x": torch.zeros(1)}, tmp_path / "c", {"chunker": json.dumps(facts)})
        with pytest.raises(CheckpointError, match=message):
            load_checkpoint(tmp_path / "c")


class Bomb:
    def __reduce__(self):
        return (pytest.fail, ("unpickled",))


def test_nothing_is_ever_unpickled(tmp_path):
    (tmp_path / "c").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(CheckpointError, match="damaged or no checkpoint"):
        load_checkpoint(tmp_path / "c")
