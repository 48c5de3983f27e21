"""Records, each coded alone: the codec, its models, their training, and how files are cut."""

from __future__ import annotations

import contextlib
import copy
import doctest
import io
import json
import pickle
import random
import re
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import chunker
from chunker.core.backend import Contexts, Progress, Settings, Stop, backend
from chunker.errors import (
    ChunkerError,
    CorruptArchive,
    ModelNotFound,
    NotAModel,
    UsageError,
    WrongModel,
)
from chunker.models import load_model
from chunker.records import codec as codec_module
from chunker.records import model as model_module
from chunker.records import states
from chunker.records.codec import RecordCodec
from chunker.records.model import ROOM, RecordConfig, RecordModel, load_record_model
from chunker.records.splitting import JSON, LINES, Records, likely_rule, rule_of, split
from chunker.records.training import hold_out, terminator_of, train

LINES_OF_A_LOG = [b"12:%02d:%02d GET /item/%d 200" % (n // 60, n % 60, 37 * n % 1000) for n in range(120)]
SAMPLE = b"".join(line + b"\n" for line in LINES_OF_A_LOG[:60])
NEW = b"13:07:31 GET /item/77 404"
TINY = Path(__file__).parent / "golden" / "tiny.safetensors"


def model(**fields) -> RecordModel:
    return RecordModel(RecordConfig(contexts=Contexts.FEW, **fields), SAMPLE)


@pytest.fixture(scope="module")
def plain() -> RecordModel:
    return model()


MODELS = {
    "lines": model(),
    "two bytes": model(terminator=b"\n\0"),
    "deflate": model(method="deflate"),
}
RECORDS = {
    "new": NEW,
    "empty": b"",
    "a newline": b"\n",
    "newlines": b"one\ntwo\n",
    "a zero": b"\0",
    "the terminator of two": b"one\n\0two",
    "not text": bytes(range(255, -1, -1)),
    "first bytes of other forms": b"\xff\xfe",
    "as long as there is room": b"ab" * (ROOM // 2 - 1) + b"c",
    "longer": b"ab" * (ROOM // 2 + 1),
    "a megabyte": b"0123456789" * 100_000,
}


# ---- the codec -------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [0, 1, 2])
@pytest.mark.parametrize("name", MODELS)
def test_what_is_known_costs_little(name, check):
    codec = RecordCodec(MODELS[name], check=check)
    encoded = codec.encode(NEW)
    assert len(encoded) < len(NEW) - 8 + check
    assert codec.decode(encoded) == NEW


@pytest.mark.parametrize("record", RECORDS.values(), ids=RECORDS)
@pytest.mark.parametrize("name", MODELS)
def test_any_record_comes_back(name, record):
    codec = RecordCodec(MODELS[name], check=2)
    encoded = codec.encode(record)
    assert codec.decode(encoded) == record
    assert len(encoded) <= len(record) + 1 + 2
    assert codec.decode(memoryview(codec.encode(bytearray(record)))) == record


@given(st.lists(st.binary(max_size=30), max_size=4))
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_many_are_what_each_is_alone(records):
    codec = RecordCodec(MODELS["lines"], workers=2)
    encoded = codec.encode_many(records)
    assert encoded == [codec.encode(record) for record in records]
    assert codec.decode_many(encoded) == records


def test_order_does_not_matter(plain):
    codec = RecordCodec(plain)
    encoded = codec.encode_many(LINES_OF_A_LOG)
    again = list(zip(encoded, LINES_OF_A_LOG, strict=True))
    random.Random(0).shuffle(again)
    assert [codec.decode(each) for each, _ in again] == [line for _, line in again]


def test_threads_share_a_codec():
    codec = RecordCodec(model(), check=2)
    expected = RecordCodec(model(), check=2).encode_batch(LINES_OF_A_LOG)
    found: dict[int, list[bytes]] = {}

    def work(number: int) -> None:
        encoded = [codec.encode(line) for line in LINES_OF_A_LOG]
        found[number] = encoded if codec.decode_batch(encoded) == LINES_OF_A_LOG else []

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert list(found.values()) == [expected] * 8


@given(st.binary(max_size=40))
@settings(max_examples=60, deadline=None)
@pytest.mark.parametrize("name", MODELS)
def test_made_up_records_are_bounded(name, encoded):
    """Other bytes or an error, whatever is decoded."""
    codec = RecordCodec(MODELS[name], max_length=100)
    with contextlib.suppress(CorruptArchive):
        assert len(codec.decode(encoded)) <= 100


@pytest.mark.parametrize("name", MODELS)
def test_damage_is_found_by_the_check(name):
    """Or does no harm: the last byte of a payload may have values that mean the same."""
    codec = RecordCodec(MODELS[name], check=2)
    encoded = codec.encode(NEW)
    for cut in (*(encoded[:end] for end in range(len(encoded))), encoded + b"\0"):
        with pytest.raises(CorruptArchive):
            codec.decode(cut)
    flipped = [
        encoded[:at] + bytes([encoded[at] ^ 1 << bit]) + encoded[at + 1 :]
        for at in range(len(encoded))
        for bit in range(8)
    ]
    found = 0
    for bad in flipped:
        try:
            assert codec.decode(bad) == NEW
        except CorruptArchive:
            found += 1
    assert found > len(flipped) - 8


def test_another_model_is_found_by_the_check():
    one = RecordCodec(MODELS["lines"], check=2)
    other = RecordCodec(RecordModel(RecordConfig(contexts=Contexts.FEW), SAMPLE[:-1] + b"!"), check=2)
    for record in (NEW, b"", b"x"):
        with pytest.raises(CorruptArchive):
            other.decode(one.encode(record))


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("record", [NEW, b"\n" + NEW, b"x" * 1000, bytes(range(256))], ids=range(4))
def test_a_record_that_is_too_long_is_refused(name, record):
    encoded = RecordCodec(MODELS[name]).encode(record)
    most = len(record) - 1
    with pytest.raises(CorruptArchive):
        RecordCodec(MODELS[name], max_length=most).decode(encoded)
    with pytest.raises(UsageError, match="max_length"):
        RecordCodec(MODELS[name], max_length=most).encode(record)
    assert RecordCodec(MODELS[name], max_length=len(record)).decode(encoded) == record


@pytest.mark.parametrize(("check", "max_length"), [(3, 9), (-1, 9), (0, -1), (0, 1 << 30)])
def test_arguments_that_make_no_sense(plain, check, max_length):
    with pytest.raises(UsageError):
        RecordCodec(plain, check=check, max_length=max_length)


def test_the_example_of_the_codec_runs():
    result = doctest.testmod(codec_module)
    assert result.attempted
    assert not result.failed


# ---- files of models -------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "m.safetensors"
    model(terminator=b"\n\x1e", rule=rule_of(r"\n\n")).save(made)
    return made


def test_a_model_comes_back(path):
    found, made = load_record_model(path), model(terminator=b"\n\x1e", rule=rule_of(r"\n\n"))
    assert (found.config, found.sample, found.fingerprint) == (made.config, SAMPLE, made.fingerprint)
    assert len(found.id) == 4
    assert found.fingerprint.startswith(found.id)
    assert found.name == "m"


def test_a_model_is_loaded_once(path):
    assert load_record_model(path) is RecordCodec(str(path)).model is RecordCodec(bytes(path)).model


def test_a_file_that_changed_is_read_again(path):
    before = load_record_model(path)
    model(terminator=b"\t").save(path)
    assert load_record_model(path).fingerprint != before.fingerprint


def test_a_codec_is_found_at_the_top(path):
    codec = chunker.RecordCodec(path)
    assert codec.decode(codec.encode(NEW)) == NEW


@pytest.mark.parametrize("copied", [lambda codec: pickle.loads(pickle.dumps(codec)), copy.deepcopy])
def test_a_codec_pickles_by_path_and_fingerprint(path, copied):
    codec = RecordCodec(path, check=1, max_length=99, workers=1)
    assert len(pickle.dumps(codec)) < 1000
    again = copied(codec)
    assert (again.check, again.max_length, again.workers) == (1, 99, 1)
    assert again.decode(codec.encode(NEW)) == NEW


def test_a_pickled_codec_wants_the_same_model(path):
    pickled = pickle.dumps(RecordCodec(path))
    model().save(path)
    with pytest.raises(WrongModel):
        pickle.loads(pickled)


def test_a_model_without_file_does_not_pickle(plain):
    with pytest.raises(UsageError, match="save"):
        pickle.dumps(RecordCodec(plain))


def test_models_of_another_kind_are_refused_both_ways(path):
    with pytest.raises(NotAModel, match="RecordCodec"):
        load_model(path)
    with pytest.raises(NotAModel, match="compress"):
        RecordCodec(load_model("text").path)


def test_bad_files_of_models(path, tmp_path):
    data = path.read_bytes()
    with pytest.raises(ModelNotFound):
        load_record_model(tmp_path / "none")
    for number, bad in enumerate((data[:-1], data[:-9] + b"x" + data[-8:], data[:40], b"", b"text\n" * 9)):
        place = tmp_path / f"{number}.safetensors"
        place.write_bytes(bad)
        with pytest.raises(NotAModel) as caught:
            load_record_model(place)
        assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    "fields",
    [{"method": "zip"}, {"gate": 5}, {"gate": -1, "stack": "ab"}, {"terminator": b""}, {"stack": "ab"}],
)
def test_configurations_that_make_no_sense(fields):
    with pytest.raises(UsageError):
        RecordConfig(**fields)


def test_the_net_of_the_built_in_model_takes_part():
    """A sentence that the contexts have not read costs less where the net knows English."""
    stack = load_model("text").fingerprint.hex()
    english = b"there is nothing that they would rather have done"
    coded = []
    for fields in ({}, {"gate": 1200, "stack": stack}):
        codec = RecordCodec(model(**fields), check=1)
        coded.append(codec.encode(english))
        assert codec.decode(coded[-1]) == english
    assert len(coded[1]) < len(coded[0])


def test_a_net_from_a_file_is_found_beside_the_model_or_here(tmp_path, monkeypatch):
    net, path = load_model(TINY), tmp_path / "models" / "m.safetensors"
    path.parent.mkdir()
    config = RecordConfig(contexts=Contexts.FEW, gate=1200, stack=net.fingerprint.hex())
    made = RecordModel(config, SAMPLE, net=net)
    made.save(path)
    encoded = RecordCodec(made, check=1).encode(NEW)
    monkeypatch.chdir(tmp_path)
    for folder in (path.parent, tmp_path):
        (folder / TINY.name).write_bytes(TINY.read_bytes())
        model_module._load.cache_clear()
        assert RecordCodec(path, check=1).decode(encoded) == NEW
        (folder / TINY.name).write_bytes(load_model("text").path.read_bytes())
        model_module._load.cache_clear()
        with pytest.raises(WrongModel, match=re.escape(TINY.name)) as caught:
            RecordCodec(path).encode(NEW)
        assert len(str(caught.value).splitlines()) == 1


def test_a_stack_that_is_not_there():
    found = RecordModel(RecordConfig(gate=1200, stack="ab" * 32), SAMPLE)
    with pytest.raises(WrongModel, match="train the model again"):
        RecordCodec(found).encode(NEW)


# ---- training --------------------------------------------------------------------------------------


def test_training_finds_what_is_common():
    trained = train(LINES_OF_A_LOG, workers=1)
    codec = RecordCodec(trained.model, check=1)
    assert codec.decode(codec.encode(NEW)) == NEW
    assert trained.validation_bytes == sum(map(len, hold_out(LINES_OF_A_LOG, 0.1, 0)[1]))
    assert trained.coded_bytes is not None
    found = [coded for _, coded in trained.rivals if coded is not None]
    assert trained.coded_bytes < min(found)
    assert trained.chosen in trained.points
    assert json.dumps(trained.model.summary)


def test_a_sample_is_no_longer_than_it_may_be():
    trained = train(LINES_OF_A_LOG, max_sample=300, workers=1)
    assert 0 < len(trained.model.sample) <= 300
    assert trained.model.sample.endswith(b"\n")


def test_training_tries_the_net_if_it_is_told_to():
    found = [
        {point.candidate.net for point in train(LINES_OF_A_LOG, net=net).points}
        for net in (None, load_model(TINY))
    ]
    assert found == [{False}, {False, True}]


def test_training_falls_back_on_deflate():
    """Contexts that may read one byte know less than deflate's dictionary."""
    trained = train(LINES_OF_A_LOG, max_sample=1, workers=1)
    assert trained.model.config.method == "deflate"
    assert trained.chosen is None
    codec = RecordCodec(trained.model, check=1)
    encoded = codec.encode_many(LINES_OF_A_LOG)
    assert codec.decode_many(encoded) == LINES_OF_A_LOG
    assert sum(map(len, encoded)) < sum(map(len, LINES_OF_A_LOG)) / 2


@pytest.mark.parametrize("records", [[b"one"], [b"one\ntwo", b"\0"], [bytes(range(256))]])
def test_few_records_are_enough(records):
    trained = train(records, workers=1)
    assert trained.points == ()
    codec = RecordCodec(trained.model)
    assert codec.decode_many(codec.encode_many(records)) == records


@pytest.mark.parametrize("records", [[], [b"", b""]])
def test_without_records_there_is_no_model(records):
    with pytest.raises(UsageError, match="no records"):
        train(records)


@given(st.lists(st.binary(max_size=9), min_size=10, max_size=60), st.integers(0, 9))
@settings(max_examples=50, deadline=None)
def test_held_out_records_are_not_trained_on(records, seed):
    numbered = [b"%d:" % number + record for number, record in enumerate(records)]
    training, held_out = hold_out(numbered, 0.1, seed)
    assert not set(training) & set(held_out)
    assert set(training) | set(held_out) <= set(numbered)
    assert numbered[-1] in held_out


@given(st.lists(st.binary(max_size=9), min_size=1, max_size=9))
def test_a_terminator_ends_few_records_early(records):
    terminator = terminator_of(records)
    assert (terminator == b"\n") == (not any(b"\n" in record for record in records))
    if terminator != b"\n":
        assert not any(terminator[-1] in record for record in records)


# ---- files into records ----------------------------------------------------------------------------

RULES = ["lines", r"\n\n", r"\x00", "--", "json"]


@given(st.lists(st.binary(max_size=6), max_size=5), st.booleans(), st.sampled_from(RULES[:-1]))
def test_a_file_is_its_records_and_separators(parts, ended, name):
    rule = rule_of(name)
    data = rule.separator.join(parts) + rule.separator * ended
    records = Records(io.BytesIO(data), rule)
    found = list(records)
    assert found == split(data, rule)
    assert rule.separator.join(found) + rule.separator * (records.ended and bool(found)) == data


def test_json_lines_stay_as_they_are():
    assert split(b'{"a": 1}\n\n[2, 3]\n', JSON) == split(b'{"a": 1}\n\n[2, 3]\n', LINES)


def test_elements_of_an_array_keep_their_spelling():
    text = b' [ {"b": 1.50, "a" : " [ , \\" "},\n 1e5, [ ], "\xc3\xa9" ] '
    assert split(text, JSON) == [b'{"b":1.50,"a":" [ , \\" "}', b"1e5", b"[]", b'"\xc3\xa9"']
    assert split(b"[]", JSON) == []


@settings(max_examples=30, deadline=None)
@given(st.lists(st.recursive(st.none() | st.floats(allow_nan=False) | st.text(), st.lists), max_size=4))
def test_any_array_is_cut(elements):
    for indent in (None, 2):
        records = split(json.dumps(elements, indent=indent).encode(), JSON)
        assert [json.loads(record) for record in records] == elements
        assert not any(b"\n" in record for record in records)


def test_strings_at_a_key():
    assert split(b'{"a": "x\\ny", "b": 1}\n{"a": ""}\n', rule_of("json:a")) == [b"x\ny", b""]
    with pytest.raises(UsageError, match="'b'"):
        split(b'{"a": "x", "b": 1}\n', rule_of("json:b"))


@pytest.mark.parametrize("data", [b"{]\n", b"[1, 2", b"1\nx\n", b"[1] 2", b"\xff\n"])
def test_what_is_no_json(data):
    with pytest.raises(UsageError) as caught:
        split(data, JSON)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize("name", ["", "json:", r"\x", "-" * 65])
def test_rules_that_are_none(name):
    with pytest.raises(ChunkerError):
        rule_of(name)


def test_likely_rules():
    assert likely_rule("a.jsonl", b"") == JSON
    assert likely_rule("a.log", b"one\ntwo\n\nthree\n") == LINES
    assert likely_rule("Packages", b"a: 1\n\na: 2\n\na: 3\n").separator == b"\n\n"


# ---- states of large samples -----------------------------------------------------------------------


@pytest.fixture
def large(tmp_path, monkeypatch):
    """A model whose sample is large enough to be kept, and a folder for it."""
    monkeypatch.setenv("CHUNKER_CACHE", str(tmp_path / "cache"))
    made = RecordModel(RecordConfig(contexts=Contexts.FEW), SAMPLE * (states.LEAST_BYTES // len(SAMPLE) + 1))
    made.save(tmp_path / "m.safetensors")

    def load() -> RecordCodec:
        model_module._load.cache_clear()  # as another process would
        return RecordCodec(tmp_path / "m.safetensors")

    return load


@pytest.mark.skipif(backend().name == "python", reason="the reference keeps no states")
def test_a_large_sample_is_read_once(large, tmp_path, monkeypatch):
    expected = large().encode_batch(LINES_OF_A_LOG)
    [kept] = (tmp_path / "cache").iterdir()
    read: list[bytes] = []
    session = type(backend().session(Settings(Contexts.FEW, 0), None, 9, Stop(), Progress()))
    monkeypatch.setattr(session, "read", lambda self, content: read.append(content))
    codec = large()
    assert codec.encode_batch(LINES_OF_A_LOG) == expected
    assert codec.decode_batch(expected) == LINES_OF_A_LOG
    assert codec.decode_many(expected * 3) == LINES_OF_A_LOG * 3
    assert read == []
    assert list((tmp_path / "cache").iterdir()) == [kept]


@pytest.mark.skipif(backend().name == "python", reason="the reference keeps no states")
@pytest.mark.parametrize(
    "harm", [lambda data: data[:-9], lambda data: b"x" * len(data), lambda data: b"", bytes]
)
def test_a_damaged_state_does_no_harm(large, tmp_path, harm):
    expected = large().encode(NEW)
    [kept] = (tmp_path / "cache").iterdir()
    kept.write_bytes(harm(kept.read_bytes()))
    assert large().encode(NEW) == expected


def test_without_a_folder_nothing_is_kept(large, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    for place in ("", str(tmp_path / "file" / "in a file")):
        monkeypatch.setenv("CHUNKER_CACHE", place)
        codec = large()
        assert codec.decode(codec.encode(NEW)) == NEW
    assert not (tmp_path / "cache").exists()


def test_few_states_are_kept(tmp_path, monkeypatch):
    monkeypatch.setenv("CHUNKER_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(states, "MOST_FILES", 2)
    for number in range(4):
        RecordCodec(_saved(tmp_path, number)).encode(NEW)
    assert len(list((tmp_path / "cache").iterdir())) == (0 if backend().name == "python" else 2)


def _saved(folder: Path, number: int) -> Path:
    made = RecordModel(RecordConfig(contexts=Contexts.FEW), b"%d\n" % number + b"x\n" * states.LEAST_BYTES)
    made.save(folder / f"{number}.safetensors")
    return folder / f"{number}.safetensors"
