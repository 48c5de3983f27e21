"""Model files: what is saved comes back, what is damaged is refused in one line, fingerprints."""

from __future__ import annotations

import hashlib
import json
import math
import re
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from chunker import modelfile
from chunker.core.quantize import SMALLEST_SCALE, float_shapes, freeze, quantise
from chunker.config import GateRule, StackConfig
from chunker.errors import ModelError, ModelNotFound, ModelVersionError, NotAModel, UsageError
from chunker.modelfile import METADATA_KEY, fingerprint, load_model, load_stack_tensors, save_stack

CONFIG = StackConfig(levels=(6, 5), gate=GateRule("surprise", 2.0))


@pytest.fixture
def tensors():
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal(s).astype(np.float32) for name, s in float_shapes(CONFIG).items()}


@pytest.fixture
def path(tmp_path, tensors):
    save_stack(tmp_path / "m.safetensors", tensors, CONFIG, {"characters": 5})
    return tmp_path / "m.safetensors"


def test_what_is_saved_comes_back(path, tensors):
    config, loaded, summary = load_stack_tensors(path)
    assert config == CONFIG
    assert summary == {"characters": 5}
    assert loaded.keys() == tensors.keys()
    assert all(np.array_equal(loaded[name], tensors[name]) for name in tensors)
    assert load_model(path).name == "m"


def test_saving_twice_gives_the_same_bytes(path, tensors, tmp_path):
    save_stack(tmp_path / "again", tensors, CONFIG, {"characters": 5})
    assert (tmp_path / "again").read_bytes() == path.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["again", "m.safetensors"]


def test_the_frozen_copy_has_the_same_fingerprint_and_a_fraction_of_the_size(path, tensors, tmp_path):
    model = load_model(path)
    save_stack(tmp_path / "frozen", model.integer_tensors, CONFIG, {})
    frozen = load_model(tmp_path / "frozen")
    assert frozen.fingerprint == model.fingerprint
    assert len(frozen.fingerprint) == 32
    assert not frozen.is_float
    assert (tmp_path / "frozen").stat().st_size < 0.4 * path.stat().st_size


def test_the_fingerprint_tells_weights_and_configurations_apart(path, tensors, tmp_path):
    before = load_model(path).fingerprint
    tensors["0.bias"][0] += np.float32(2**-20)
    save_stack(tmp_path / "other", tensors, CONFIG, {"characters": 5})
    assert load_model(tmp_path / "other").fingerprint != before
    tensors["0.bias"][0] -= np.float32(2**-20)
    save_stack(tmp_path / "other", tensors, StackConfig(levels=(6, 5), gate=GateRule("argmax")), {})
    assert load_model(tmp_path / "other").fingerprint != before
    save_stack(tmp_path / "other", tensors, CONFIG, {"other": "summary"})
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


@pytest.mark.parametrize("damage", ["missing", "extra", "shape", "type", "nan"])
def test_tensors_that_do_not_fit_are_refused(path, tensors, damage):
    frozen = freeze(tensors)
    if damage == "missing":
        del frozen["0.bias"]
    elif damage == "extra":
        frozen["more"] = np.zeros(3, dtype=np.float32)
    elif damage == "shape":
        frozen["0.bias"] = frozen["0.bias"][1:].copy()
    elif damage == "type":
        frozen["0.bias"] = frozen["0.bias"].astype(np.float64)
    else:
        frozen["0.bias"][0] = np.nan
    _resave(path, frozen)
    with pytest.raises(NotAModel):
        load_model(path)


def test_a_failed_save_leaves_the_old_model_and_nothing_else(path, tensors, monkeypatch):
    before = path.read_bytes()

    def full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(OSError, match="No space"):
        save_stack(path, tensors, CONFIG, {})
    assert path.read_bytes() == before
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_diverged_model_is_not_saved(tmp_path, tensors):
    tensors["0.bias"][:] = np.inf
    with pytest.raises(NotAModel, match="not finite"):
        save_stack(Path(tmp_path, "m"), tensors, CONFIG, {})


@pytest.mark.parametrize("scale", [0.0, -1.0, 2.0**-41])
def test_what_learning_could_not_divide_by_is_no_scale(tmp_path, tensors, scale):
    frozen = freeze(tensors)
    frozen["0.readout.scale"][3] = scale
    with pytest.raises(NotAModel, match="no scales"):
        save_stack(tmp_path / "scaled", frozen, CONFIG, {})


@pytest.mark.parametrize("peak", [0.0, 1e-30, 2.0**-34, 2.0**-32])
def test_freezing_makes_no_such_scale(peak):
    _, scales = quantise(np.full((2, 3), peak, dtype=np.float32))
    assert (scales >= SMALLEST_SCALE).all()


@pytest.fixture
def family(tmp_path, tensors, monkeypatch):
    """A folder of built-in models with `base`, and a model that shares its read-outs."""
    builtin = tmp_path / "builtin"
    builtin.mkdir()
    monkeypatch.setattr(modelfile, "BUILTIN", builtin)
    base = freeze(tensors)
    save_stack(builtin / "base.safetensors", base, CONFIG, {})
    changed = {name: t if "readout" in name else t.copy() for name, t in base.items()}
    changed["0.recurrent.q"][0] ^= 1
    return builtin, base, changed


def test_what_a_built_in_model_has_as_well_can_be_left_out(family, tmp_path):
    _, base, changed = family
    save_stack(tmp_path / "whole", changed, CONFIG, {})
    save_stack(tmp_path / "lean", changed, CONFIG, {}, shared="base")
    whole, lean = load_model(tmp_path / "whole"), load_model(tmp_path / "lean")
    assert lean.fingerprint == whole.fingerprint != fingerprint(CONFIG, base)
    assert lean.integer_tensors.keys() == whole.integer_tensors.keys()
    assert all(np.array_equal(t, whole.integer_tensors[name]) for name, t in lean.integer_tensors.items())
    assert (tmp_path / "lean").stat().st_size < (tmp_path / "whole").stat().st_size - 2000


def test_a_model_that_shares_needs_just_that_built_in_model(family, tensors, tmp_path):
    builtin, base, changed = family
    save_stack(tmp_path / "lean", changed, CONFIG, {}, shared="base")
    base["0.readout.q"][0] ^= 1
    save_stack(builtin / "base.safetensors", base, CONFIG, {})
    with pytest.raises(NotAModel, match="its chunker had another model 'base'"):
        load_model(tmp_path / "lean")
    (builtin / "base.safetensors").unlink()
    with pytest.raises(ModelNotFound, match="'base', which this chunker lacks; upgrade"):
        load_model(tmp_path / "lean")


def test_sharing_with_what_is_not_there_or_not_alike_is_refused(family, tensors, tmp_path):
    unlike = {name: tensor + np.float32(1) for name, tensor in tensors.items()}
    with pytest.raises(UsageError, match="'best' is not a built-in model; these are: base"):
        save_stack(tmp_path / "lean", freeze(tensors), CONFIG, {}, shared="best")
    with pytest.raises(UsageError, match="nothing is the same"):
        save_stack(tmp_path / "lean", unlike, CONFIG, {}, shared="base")
    assert not (tmp_path / "lean").exists()


@pytest.mark.parametrize("shared", [5, {"model": "base"}, {"tensors": []}, {"model": "base", "tensors": 3}])
def test_a_description_of_sharing_that_makes_no_sense_is_refused(family, tmp_path, shared):
    _, base, _ = family
    text = {"checksum": "", "config": CONFIG.to_json(), "summary": {}, "version": 2, "shared": shared}
    save_file(base, tmp_path / "odd", metadata={METADATA_KEY: json.dumps(text)})
    with pytest.raises(NotAModel, match="cannot be read"):
        load_model(tmp_path / "odd")


SIZES = {"I8": 1, "I32": 4, "F32": 4}
TYPES = {"I8": "|i1", "I32": "<i4", "F32": "<f4"}
BUILTIN_FILES = sorted(modelfile.BUILTIN.glob("*.safetensors"))


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
def test_the_format_page_says_how_to_read_a_model(path):
    description, tensors = read_by_hand(path)
    if "shared" in description:
        _, others = read_by_hand(modelfile.BUILTIN / f"{description['shared']['model']}.safetensors")
        tensors |= {name: others[name] for name in description["shared"]["tensors"]}
    config = json.dumps(description["config"], sort_keys=True, separators=(",", ":"))
    hasher = hashlib.blake2b(config.encode(), digest_size=32, person=b"chunker model v1")
    for name, (kind, shape, data) in sorted(tensors.items()):
        hasher.update(f"\n{name} {kind} {shape}\n".encode() + data)
    assert hasher.hexdigest() == description["checksum"] == load_model(path).fingerprint.hex()
    page = (Path(modelfile.__file__).parent / "FORMAT.md").read_text()
    for key in (*description, *description["config"], *description["config"]["gate"]):
        assert f"`{key}`" in page or f'"{key}"' in page, key
    for name in tensors:
        bare = name.partition(".")[2].removesuffix(".q").removesuffix(".scale") or name
        assert {f"`{bare}`", f"`0.{bare}`", f"`i.{bare}`"} & set(re.findall(r"`[^`]+`", page)), name
