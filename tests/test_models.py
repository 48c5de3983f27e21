"""Model files: what is saved comes back, what is damaged is refused in one line, fingerprints."""

from __future__ import annotations

import hashlib
import json
import math
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_support import environment
from safetensors.numpy import save_file

from chunker import models
from chunker.config import GateRule, StackConfig, Wake
from chunker.core.layout import float_shapes
from chunker.core.quantize import quantize
from chunker.errors import ModelError, ModelNotFound, ModelVersionError, NotAModel, UsageError
from chunker.models import Model, load_model, raw, save_model
from chunker.models.averaging import average
from chunker.models.modelfile import METADATA_KEY

CONFIG = StackConfig(levels=(6, 5), gate=GateRule("surprise", 2.0))


@pytest.fixture
def tensors():
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(s).astype(np.float32) for name, s in float_shapes(CONFIG).items()}


@pytest.fixture
def path(tmp_path, tensors):
    save_model(tmp_path / "m.safetensors", tensors, CONFIG, {"bytes": 5})
    return tmp_path / "m.safetensors"


def test_what_is_saved_comes_back(path, tensors):
    model = load_model(path)
    assert model.config == CONFIG
    assert model.summary == {"bytes": 5}
    assert model.float_tensors.keys() == tensors.keys()
    assert all(np.array_equal(model.float_tensors[name], tensors[name]) for name in tensors)
    assert model.name == "m"


def test_saving_twice_gives_the_same_bytes(path, tensors, tmp_path):
    save_model(tmp_path / "again", tensors, CONFIG, {"bytes": 5})
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "m.safetensors"]


def test_the_frozen_copy_has_the_same_fingerprint_and_a_fraction_of_the_size(path, tensors, tmp_path):
    model = load_model(path)
    save_model(tmp_path / "frozen", model.integer_tensors, CONFIG, {})
    frozen = load_model(tmp_path / "frozen")
    assert frozen.fingerprint == model.fingerprint
    assert len(frozen.fingerprint) == 32
    assert not frozen.is_float
    assert (tmp_path / "frozen").stat().st_size < 0.4 * path.stat().st_size


def test_the_fingerprint_tells_weights_and_configurations_apart(path, tensors, tmp_path):
    before = load_model(path).fingerprint
    tensors["0.bias"][0] += np.float32(2**-10)
    save_model(tmp_path / "other", tensors, CONFIG, {"bytes": 5})
    assert load_model(tmp_path / "other").fingerprint != before
    tensors["0.bias"][0] -= np.float32(2**-10)
    save_model(tmp_path / "other", tensors, StackConfig(levels=(6, 5), gate=GateRule("argmax")), {})
    assert load_model(tmp_path / "other").fingerprint != before
    save_model(tmp_path / "other", tensors, CONFIG, {"other": "summary"})
    assert load_model(tmp_path / "other").fingerprint == before


def test_every_kind_of_damage_to_the_tensors_is_found(path):
    whole = bytearray(path.read_bytes())
    for at in (len(whole) - 1, len(whole) // 2, len(whole) // 3):
        whole[at] ^= 1
        path.write_bytes(whole)
        with pytest.raises(NotAModel, match=r"checksum|not finite"):
            load_model(path)
        whole[at] ^= 1


def test_a_missing_model_is_named(tmp_path):
    with pytest.raises(ModelNotFound, match="nowhere"):
        load_model(tmp_path / "nowhere")
    with pytest.raises(ModelNotFound, match="built-in"):
        load_model("no-such-model")


def test_every_cut_of_a_model_is_refused(path):
    whole = path.read_bytes()
    for length in [0, 1, 7, 8, 9, 100, len(whole) // 2, len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(NotAModel) as caught:
            load_model(path)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [b"", b"hello", b"\xff" * 5000, b"{}" * 99, b"\x10" + bytes(7) + b"x" * 16])
def test_other_files_are_refused(path, text):
    path.write_bytes(text)
    with pytest.raises(NotAModel):
        load_model(path)


def _resave(path, tensors, **changes):
    fields = {"checksum": "", "config": CONFIG.to_json(), "summary": {}, "version": 1, **changes}
    save_file(tensors, path, metadata={METADATA_KEY: json.dumps(fields)})


def test_a_newer_version_is_refused(path, tensors):
    _resave(path, tensors, version=99)
    with pytest.raises(ModelVersionError, match="upgrade"):
        load_model(path)


@pytest.mark.parametrize(
    "changes",
    [
        {"config": {}},
        {"config": None},
        {"config": {**CONFIG.to_json(), "levels": [10**9]}},
        {"config": {**CONFIG.to_json(), "levels": "no"}},
        {"config": {**CONFIG.to_json(), "levels": [6, 7]}},
        {"config": {**CONFIG.to_json(), "extra": 1}},
        {"version": "one"},
        {"summary": 3},
    ],
)
def test_descriptions_that_do_not_fit_are_refused(path, tensors, changes):
    _resave(path, tensors, **changes)
    with pytest.raises(ModelError) as caught:
        load_model(path)
    assert "\n" not in str(caught.value)


def test_safetensors_of_another_program_are_refused(path, tensors):
    save_file(tensors, path)
    with pytest.raises(NotAModel, match="not a chunker model"):
        load_model(path)


@pytest.mark.parametrize("damage", ["missing", "extra", "shape", "type", "float", "nan"])
def test_tensors_that_do_not_fit_are_refused(path, tensors, damage):
    frozen = quantize(tensors)
    if damage == "missing":
        del frozen["0.bias"]
    elif damage == "extra":
        frozen["more"] = np.zeros(3, dtype=np.float32)
    elif damage == "shape":
        frozen["0.bias"] = frozen["0.bias"][1:].copy()
    elif damage == "type":
        frozen["0.bias"] = frozen["0.bias"].astype(np.float64)
    elif damage == "float":
        frozen["0.bias"] = tensors["0.bias"]
    else:
        frozen = {**tensors, "0.bias": np.full_like(tensors["0.bias"], np.nan)}
    _resave(path, frozen)
    with pytest.raises(NotAModel):
        load_model(path)


def test_a_failed_save_leaves_the_old_model_and_nothing_else(path, tensors, monkeypatch):
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        save_model(path, tensors, CONFIG, {})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_diverged_model_is_not_saved(tmp_path, tensors):
    tensors["0.bias"][:] = np.inf
    with pytest.raises(NotAModel, match="not finite"):
        save_model(Path(tmp_path, "m"), tensors, CONFIG, {})


def changed(frozen, name, index, value):
    frozen = {key: tensor.copy() for key, tensor in frozen.items()}
    frozen[name][index] = value
    return frozen


@pytest.mark.parametrize(
    ("name", "index", "value"),
    [
        ("0.recurrent.q", (0, 0), -128),
        ("0.recurrent.multiplier", 3, 0),
        ("0.symbol_input.multiplier", 3, -1),
        ("0.bias", 2, 2**24),
        ("1.readout_bias", 2, -(2**24)),
        ("thresholds", 0, -1),
    ],
)
def test_numbers_that_no_model_has_are_refused(path, tensors, tmp_path, name, index, value):
    damaged = changed(quantize(tensors), name, index, value)
    with pytest.raises(NotAModel, match=f"{name} holds values that no model has"):
        save_model(tmp_path / "odd", damaged, CONFIG, {})
    _resave(path, damaged)
    with pytest.raises(NotAModel, match=f"{name} holds values that no model has"):
        load_model(path)


def test_products_must_fit_whatever_the_states_are(tmp_path):
    """127 * (sum of |q|) * multiplier stays below 2**50, in each column for itself."""
    config = StackConfig(levels=(200,), symbols=5)
    rng = np.random.default_rng(0)
    floats = {name: rng.standard_normal(s).astype(np.float32) for name, s in float_shapes(config).items()}
    frozen = quantize(floats)
    sums = np.abs(frozen["0.recurrent.q"].astype(np.int64)).sum(0)
    most = (2**50 - 1) // (127 * sums)
    assert (most < 2**31).all()
    frozen["0.recurrent.multiplier"] = most.astype(np.int32)
    save_model(tmp_path / "m", frozen, config, {})
    assert load_model(tmp_path / "m").fingerprint
    for column in (0, 150, 599):
        beyond = changed(frozen, "0.recurrent.multiplier", column, most[column] + 1)
        with pytest.raises(NotAModel, match=r"0\.recurrent\.multiplier"):
            save_model(tmp_path / "m", beyond, config, {})


def test_weights_too_large_for_integers_are_not_saved(tmp_path):
    config = StackConfig(levels=(100,), symbols=5)
    tensors = {name: np.full(shape, 1e6, np.float32) for name, shape in float_shapes(config).items()}
    with pytest.raises(NotAModel, match="too large"):
        save_model(tmp_path / "m", tensors, config, {})


def test_a_model_that_wakes_comes_back(tmp_path):
    config = StackConfig(levels=(6,), wake=Wake(slept=True, guess=True, catch_up=4))
    tensors = {name: np.ones(shape, np.float32) for name, shape in float_shapes(config).items()}
    save_model(tmp_path / "m", tensors, config, {})
    assert load_model(tmp_path / "m").config == config
    save_model(tmp_path / "frozen", quantize(tensors), config, {})
    assert load_model(tmp_path / "frozen").raw_tensors["0.guess_input.q"].shape == (257, 18)
    for lacking in ("0.guess_input", "0.confidence_input", "0.time_input"):
        fewer = {name: tensor for name, tensor in tensors.items() if name != lacking}
        with pytest.raises(NotAModel, match="do not fit"):
            save_model(tmp_path / "m", fewer, config, {})


@pytest.mark.parametrize(
    "wake",
    [
        {"slept": 1},
        {"guess": "yes"},
        {"catch_up": -1},
        {"catch_up": 256},
        {"catch_up": True},
        {"more": 1},
        [1],
    ],
)
def test_waking_that_makes_no_sense_is_refused(wake):
    with pytest.raises(UsageError):
        StackConfig.from_json({**CONFIG.to_json(), "wake": wake})
    assert "wake" not in CONFIG.to_json()


# ---- without numpy ----------------------------------------------------------------------------------


def test_an_integer_model_is_read_without_numpy(path, tensors):
    save_model(path, quantize(tensors), CONFIG, {})
    code = (
        "import sys, chunker, chunker.models as m\n"
        "text, other = m.load_model('text'), m.load_model(sys.argv[1])\n"
        "print(text.fingerprint.hex(), other.fingerprint.hex(), text.parameters, len(other.raw_tensors))\n"
        "sys.exit('numpy' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], env=environment(), check=True, capture_output=True
    )
    text, other = load_model("text"), load_model(path)
    wanted = (text.fingerprint.hex(), other.fingerprint.hex(), text.parameters, len(other.raw_tensors))
    assert done.stdout.decode().split() == [str(value) for value in wanted]


def test_raw_tensors_are_the_integer_ones(path, tensors):
    """Of a trained model as well as of its frozen copy."""
    wanted = quantize(tensors)
    for _ in range(2):
        model = load_model(path)
        assert model.raw_tensors == raw(wanted)
        for name, tensor in model.raw_tensors.items():
            assert np.array_equal(
                np.frombuffer(tensor.data, tensor.dtype).reshape(tensor.shape), wanted[name]
            )
            assert np.array_equal(model.integer_tensors[name], wanted[name])
        save_model(path, wanted, CONFIG, {})


# ---- the format page --------------------------------------------------------------------------------


SIZES = {"I8": 1, "I32": 4, "F32": 4}
TYPES = {"I8": "|i1", "I32": "<i4", "F32": "<f4"}
BUILTIN_FILES = sorted(models.BUILTIN.glob("*.safetensors"))


def read_by_hand(path):
    """A model file by FORMAT.md alone: its description, and name -> type, shape, bytes."""
    blob = path.read_bytes()
    n = int.from_bytes(blob[:8], "little")
    header = json.loads(blob[8 : 8 + n])
    description = json.loads(header.pop("__metadata__")["chunker"])
    tensors = {}
    for name, entry in header.items():
        begin, end = entry["data_offsets"]
        assert end - begin == SIZES[entry["dtype"]] * math.prod(entry["shape"])
        tensors[name] = (TYPES[entry["dtype"]], entry["shape"], blob[8 + n + begin : 8 + n + end])
    return description, tensors


@pytest.mark.parametrize("path", BUILTIN_FILES, ids=lambda path: path.stem)
def test_a_built_in_models_fingerprint_is_known_before_it_is_loaded(path):
    assert models.builtin_fingerprint(path.stem) == load_model(path.stem).fingerprint


@pytest.mark.parametrize("path", BUILTIN_FILES, ids=lambda path: path.stem)
def test_the_format_page_says_how_to_read_a_model(path):
    description, tensors = read_by_hand(path)
    config = json.dumps(description["config"], sort_keys=True, separators=(",", ":"))
    hasher = hashlib.blake2b(config.encode(), digest_size=32, person=b"chunker model v1")
    for name, (kind, shape, data) in sorted(tensors.items()):
        hasher.update(f"\n{name} {kind} {shape}\n".encode() + data)
    assert hasher.hexdigest() == description["checksum"] == load_model(path).fingerprint.hex()
    page = (Path(models.__file__).parents[1] / "core" / "FORMAT.md").read_text()
    for key in (*description, *description["config"], *description["config"]["gate"]):
        assert f"`{key}`" in page or f'"{key}"' in page, key
    for name in tensors:
        bare = name.partition(".")[2].removesuffix(".q").removesuffix(".multiplier") or name
        assert {f"`{bare}`", f"`0.{bare}`", f"`i.{bare}`"} & set(re.findall(r"`[^`]+`", page)), name


# ---- averages --------------------------------------------------------------------------------------


def shifted(model: Model, by: float, name: str) -> Model:
    tensors = {key: tensor + np.float32(by) for key, tensor in model.float_tensors.items()}
    return Model(name, model.path, model.config, {}, raw(tensors))


def test_an_average_lies_between_its_models(tiny_model):
    lower, upper = shifted(tiny_model, -0.1, "lower"), shifted(tiny_model, 0.3, "upper")
    for weights, by in ((None, 0.1), ([3, 1], 0.0), ([0.5, 1.5], 0.2)):
        found = average([lower, upper], weights)
        for name, tensor in shifted(tiny_model, by, "between").float_tensors.items():
            np.testing.assert_allclose(found[name], tensor, atol=1e-6)
            assert found[name].dtype == tensor.dtype


@pytest.mark.parametrize(
    ("count", "weights", "message"),
    [
        (1, None, "two models or more"),
        (2, [1.0], "2 numbers above 0"),
        (2, [1.0, 0.0], "2 numbers above 0"),
        (2, [1.0, float("nan")], "2 numbers above 0"),
    ],
)
def test_what_is_no_average(tiny_model, count, weights, message):
    with pytest.raises(UsageError, match=message):
        average([tiny_model] * count, weights)


def test_models_of_two_configurations_have_no_average(tiny_model):
    with pytest.raises(UsageError, match="one configuration"):
        average([tiny_model, load_model("small")])
