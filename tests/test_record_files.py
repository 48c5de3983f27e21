"""Files of records, the commands that make and read them, and the places that keep records."""

from __future__ import annotations

import io
import json
import re
import sqlite3
import threading
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from zlib import crc32

import cli_support
import pytest
from cli_support import ROOT, one_line

from chunker.cli.main import chunker
from chunker.core.backend import Contexts
from chunker.errors import (
    ArchiveError,
    ArchiveVersionError,
    CorruptArchive,
    NotAnArchive,
    UsageError,
    WrongModel,
)
from chunker.records import container
from chunker.records.blocks import make_block, parse_block
from chunker.records.codec import RecordCodec
from chunker.records.container import RecordFile, open_records, write
from chunker.records.mapping import RecordMapping
from chunker.records.model import RecordConfig, RecordModel
from chunker.records.sqlite import register

LINES = [b"12:%02d:%02d GET /item/%d 200" % (n // 60, n % 60, 37 * n % 1000) for n in range(90)]
RECORDS = [*LINES, b"", b"\0\xff", b"a\nb", b""]
MODEL = RecordModel(RecordConfig(contexts=Contexts.FEW), b"\n".join([*LINES[:40], b""]))


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("model") / "m.safetensors"
    MODEL.save(path)
    return path


@pytest.fixture(scope="module")
def codec(model) -> RecordCodec:
    return RecordCodec(model)


@pytest.fixture(scope="module")
def packed(codec) -> bytes:
    file = io.BytesIO()
    write(file, iter(RECORDS), codec)
    return file.getvalue()


@pytest.fixture
def small_blocks(monkeypatch):
    """Some records are many blocks then."""
    monkeypatch.setattr(container, "BLOCK_RECORDS", 7)


def call(*arguments: object, code: int = 0, stdin: bytes | None = None) -> Any:
    return cli_support.call(chunker, *map(str, arguments), code=code, stdin=stdin)


# ---- blocks and files ------------------------------------------------------------------------------


class Interrupted(io.BytesIO):
    """A file during whose next `read` another thread begins, and ends unless it has to wait for the first."""

    other: threading.Thread | None = None

    def read(self, size: int | None = -1, /) -> bytes:
        other, self.other = self.other, None
        if other is not None:
            other.start()
            other.join(0.2)
        return super().read(size)


def test_threads_share_a_file(small_blocks, codec):
    target, found = Interrupted(), list[bytes]()
    write(target, iter(RECORDS), codec)
    file = RecordFile(target, MODEL, workers=1)
    target.other = other = threading.Thread(target=lambda: found.append(file[50]))
    assert file[3] == RECORDS[3]
    other.join()
    assert found == [RECORDS[50]]


@pytest.mark.parametrize("encoded", [[], [b"a"], [b"ab", b"c" * 300, b"\xff"], [b"x" * 20_000] * 3])
def test_a_block_is_its_records(encoded):
    assert parse_block(make_block(encoded)) == encoded


def test_blocks_that_lie():
    block = make_block([b"ab", b"cde"])
    for at in range(len(block)):
        for bad in (block[:at], block[:at] + bytes([block[at] ^ 4]) + block[at + 1 :]):
            with pytest.raises(CorruptArchive):
                parse_block(bad)


@pytest.mark.parametrize(
    "head", [b"\x7f", b"\x02\x7f", b"\xff\xff\xff\x7f\x02\x03\x00", b"\x00\x00", b"\x02\x00"]
)
def test_blocks_that_lie_under_a_sound_checksum(head):
    content = head + make_block([b"ab", b"cde"])[2:-4]
    with pytest.raises(CorruptArchive):
        parse_block(content + crc32(content).to_bytes(4, "little"))


@pytest.mark.usefixtures("small_blocks")
def test_a_file_is_a_sequence(codec):
    file = io.BytesIO()
    written = write(file, iter(RECORDS), codec)
    assert (written.records, written.bytes_in) == (len(RECORDS), sum(map(len, RECORDS)))
    assert written.bytes_out == len(file.getvalue())
    found = RecordFile(file, MODEL)
    assert list(found) == RECORDS
    assert len(found) == len(RECORDS)
    assert [found[n] for n in range(len(RECORDS))] == RECORDS
    assert (found[-1], found[3:20], found[::-9]) == (RECORDS[-1], RECORDS[3:20], RECORDS[::-9])
    with pytest.raises(IndexError):
        found[len(RECORDS)]


def test_an_empty_file(codec):
    file = io.BytesIO()
    write(file, iter([]), codec)
    assert list(RecordFile(file, MODEL)) == []


def test_every_flipped_or_lost_byte_is_found(packed):
    for at in range(0, len(packed), 3):
        for bad in (packed[:at], packed[:at] + bytes([packed[at] ^ 8]) + packed[at + 1 :]):
            with pytest.raises(ArchiveError) as caught:
                list(RecordFile(io.BytesIO(bad), MODEL))
            assert len(str(caught.value).splitlines()) == 1
    with pytest.raises(ArchiveError):
        RecordFile(io.BytesIO(packed + b"\0"), MODEL)


@pytest.mark.parametrize(
    "heads",
    [b"\x5e\x01", b"", b"\x80\x00\x01", b"\x00\x01", b"\x81\x20\x01", b"\xff\xff\xff\xff\x01\x01"],
)
def test_an_index_that_lies(packed, heads):
    end = len(packed) - container.FOOTER_BYTES
    begin = end - int.from_bytes(packed[end : end + 8], "little")
    index = packed[begin : begin + 1] + heads + packed[end - 4 : end]
    sized = index + len(index).to_bytes(8, "little")
    file = packed[:begin] + sized + crc32(sized).to_bytes(4, "little") + packed[-3:]
    with pytest.raises(CorruptArchive):
        RecordFile(io.BytesIO(file), MODEL)


def test_an_index_that_miscounts(packed):
    """The sizes add up, but the block has another number of records."""
    end = len(packed) - container.FOOTER_BYTES
    begin = end - int.from_bytes(packed[end : end + 8], "little")
    index = bytearray(packed[begin:end])
    index[1] -= 1
    sized = bytes(index) + packed[end : end + 8]
    file = packed[:begin] + sized + crc32(sized).to_bytes(4, "little") + packed[-3:]
    found = RecordFile(io.BytesIO(file), MODEL)
    for read in (list, lambda found: found[0]):
        with pytest.raises(CorruptArchive, match="index"):
            read(found)


def test_other_versions_and_other_files(packed):
    with pytest.raises(NotAnArchive):
        RecordFile(io.BytesIO(b"text"), MODEL)
    with pytest.raises(ArchiveVersionError):
        RecordFile(io.BytesIO(packed[:3] + b"\x02" + packed[4:]), MODEL)


def test_the_model_is_found_beside_the_file(packed, model, tmp_path, monkeypatch):
    place = tmp_path / "folder" / "a.nhr"
    place.parent.mkdir()
    place.write_bytes(packed)
    monkeypatch.chdir(tmp_path)
    with open_records(place) as found, pytest.raises(WrongModel, match=re.escape("m.safetensors")):
        found[0]
    for folder in (tmp_path, place.parent):
        (folder / "m.safetensors").write_bytes(model.read_bytes())
        with open_records(place) as found:
            assert found[0] == RECORDS[0]
        (folder / "m.safetensors").unlink()


def test_a_wrong_model_is_told(packed, tmp_path):
    other = RecordModel(RecordConfig(contexts=Contexts.FEW), b"x\n")
    with pytest.raises(WrongModel, match=f"{MODEL.id.hex()}.*{other.id.hex()}"):
        list(RecordFile(io.BytesIO(packed), other))


# ---- commands --------------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path, model) -> Path:
    """A file of lines that does not end in one, its packed file beside it, and the model."""
    path: Path = tmp_path / "a.log"
    path.write_bytes(b"\n".join(LINES))
    (tmp_path / "m.safetensors").write_bytes(model.read_bytes())
    call("records", "pack", path, "-m", model, "-q")
    return path


def test_pack_and_unpack(log, tmp_path):
    call("records", "unpack", f"{log}.nhr", "-o", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == log.read_bytes()
    assert call("records", "unpack", f"{log}.nhr", "-c").stdout_bytes == log.read_bytes()
    assert "exists" in one_line(call("records", "unpack", f"{log}.nhr", code=1).stderr_bytes)


def test_pack_prints_a_line_or_json(log, model):
    line = call("records", "pack", log, "-m", model, "-f").stdout
    assert "90 records" in line
    found = json.loads(call("records", "pack", log, "-m", model, "-f", "--json").stdout)
    assert (found["records"], found["bytes_in"]) == (90, sum(map(len, LINES)))


@pytest.mark.parametrize(
    ("data", "rule", "back"),
    [
        (b"a\n\nb\nc\n\n", r"\n\n", b"a\n\nb\nc\n\n"),
        (b'{"a": 1}\n{}', "json", b'{"a": 1}\n{}'),
        (b'[{"a": 1},\n {}]\n', "json", b'{"a":1}\n{}\n'),
        (b"", "lines", b""),
    ],
)
def test_rules_of_files(data, rule, back, model, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(data)
    call("records", "pack", path, "-m", model, "--records", rule)
    assert call("records", "unpack", f"{path}.nhr", "-m", model, "-c").stdout_bytes == back


def test_a_failed_pack_leaves_nothing(model, tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"{}\nx\n")
    told = one_line(call("records", "pack", path, "-m", model, "--records", "json", code=1).stderr_bytes)
    assert "record 1 is no JSON" in told
    assert [each.name for each in tmp_path.iterdir()] == ["a"]


def test_get(log):
    got = call("records", "get", f"{log}.nhr", "3", "88:", ":1").stdout_bytes
    assert got.split(b"\n") == [LINES[3], *LINES[88:], LINES[0], b""]
    assert call("records", "get", f"{log}.nhr", "--", "-1").stdout_bytes == LINES[-1] + b"\n"
    assert "from 0 on" in one_line(call("records", "get", f"{log}.nhr", "90", code=1).stderr_bytes)
    assert "no number" in one_line(call("records", "get", f"{log}.nhr", "x", code=2).stderr_bytes)


@pytest.mark.parametrize(
    ("arguments", "chosen"),
    [
        (("item/3.* ",), lambda line: b"item/3" in line),
        (("-F", "item/3.* "), lambda line: False),
        (("-i", "ITEM/3"), lambda line: b"item/3" in line),
        (("-v", "item/3"), lambda line: b"item/3" not in line),
    ],
)
def test_grep(log, arguments, chosen):
    expected = [line for line in LINES if chosen(line)]
    found = call("records", "grep", *arguments, f"{log}.nhr", code=int(not expected))
    assert found.stdout_bytes == b"".join(line + b"\n" for line in expected)
    count = call("records", "grep", "-c", *arguments, f"{log}.nhr", code=int(not expected)).stdout
    assert int(count) == len(expected)


def test_grep_numbers_what_it_finds(log):
    assert call("records", "grep", "-n", "12:00:07", f"{log}.nhr").stdout_bytes == b"7:" + LINES[7] + b"\n"
    assert "-F" in one_line(call("records", "grep", "(", f"{log}.nhr", code=1).stderr_bytes)


def test_evaluate(log, model):
    document = json.loads(call("records", "evaluate", model, log, "--check", "1", "--json").stdout)
    [found] = document["files"]
    bytes_out = sum(map(len, RecordCodec(model, check=1).encode_many(LINES)))
    assert (found["records"], found["bytes_in"], found["bytes_out"]) == (90, sum(map(len, LINES)), bytes_out)
    assert found["bits_per_char"] == pytest.approx(8 * bytes_out / found["bytes_in"], abs=1e-3)
    assert found["encoded_per_second"] > 0
    assert found["decoded_per_second"] > 0
    assert call("records", "evaluate", model, log).stdout.count("\n") == 2


def test_bench(log):
    [found] = json.loads(call("records", "bench", log, "--sample", "2000", "-T", "1", "--json").stdout)[
        "files"
    ]
    assert found["bits_per_char"] > 0
    assert found["of_the_best"] <= 1
    assert found["sample_bytes"] <= 2000


def test_bench_of_too_few_records(tmp_path):
    (tmp_path / "few").write_bytes(b"one\n\n")
    assert "too few" in one_line(call("records", "bench", tmp_path / "few", code=1).stderr_bytes)


def test_a_folder_in_place_of_a_file_is_named(log, model, tmp_path):
    for arguments in (
        ("pack", tmp_path, "-m", model),
        ("unpack", tmp_path, "-c"),
        ("get", tmp_path, 0),
        ("grep", "x", tmp_path),
    ):
        told = one_line(call("records", *arguments, code=1).stderr_bytes)
        assert f"{tmp_path}: is a directory" in told
    told = one_line(call("train", "--records", "lines", tmp_path, "-o", tmp_path / "x", code=1).stderr_bytes)
    assert f"{tmp_path}: is a directory" in told


def test_train(log, tmp_path):
    made = tmp_path / "made.safetensors"
    arguments = ("train", "--records", "lines", log, "-o", made, "--sample", "2000", "--threads", "1")
    *table, head, last = call(*arguments).stdout.splitlines()
    assert sum("*" in line for line in table) == 1
    assert RecordCodec(made).model.id.hex() in head
    assert "deflate" in last
    assert "--force" in one_line(call(*arguments, code=1).stderr_bytes)
    assert call(*arguments, "--force", "-q").stdout == ""


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--records", "lines", "--levels", "3", "log"), "--levels"),
        (("--records", "lines"), "name files"),
        (("--records", "", "log"), "separator"),
        (("--records", "lines", "empty"), "no records"),
        (("--records", "json", "log"), "no JSON"),
        (("--sample", "9", "log"), "--records"),
        (("--net", "text", "log"), "--records"),
        (("--records", "lines", "--net", "./none", "log"), "no model file"),
        (("--records", "lines", "--net", "log", "log"), "not a model"),
    ],
)
def test_trainings_that_make_no_sense(arguments, told, log, tmp_path):
    (tmp_path / "empty").touch()
    names = {"log": log, "empty": tmp_path / "empty"}
    placed = [names.get(each, each) for each in arguments]
    assert told in one_line(call("train", *placed, "-o", tmp_path / "x", code=1).stderr_bytes)
    assert not (tmp_path / "x").exists()


def test_files_that_are_none(log, model):
    for arguments in (("get", log, 0), ("unpack", log, "-o", "x"), ("grep", "x", log)):
        assert "no file of records" in one_line(call("records", *arguments, code=1).stderr_bytes)
    told = one_line(call("records", "evaluate", log, log, code=1).stderr_bytes)
    assert "not a model file" in told
    assert "model of records" in one_line(call("compress", log, "-m", model, code=1).stderr_bytes)


# ---- where people keep records ---------------------------------------------------------------------


def test_sqlite(codec, model):
    db = sqlite3.connect(":memory:")
    register(db, {"log": codec}, check=1)
    values = ["text é", b"\xff\0", "", None, LINES[0].decode()]
    for name in ("log", str(model)):
        query = "select nhc_decode(nhc_encode(?, ?), ?), length(nhc_encode(?, ?))"
        for value in values:
            [(back, size)] = db.execute(query, (value, name, name, value, name))
            assert back == value
            assert value is None or size <= len(value.encode() if isinstance(value, str) else value) + 2
    with pytest.raises(sqlite3.OperationalError):
        db.execute("select nhc_encode(1, 'log')").fetchall()
    with pytest.raises(sqlite3.OperationalError):
        db.execute("select nhc_decode('text', 'log')").fetchall()
    db.close()


@pytest.mark.parametrize("module", ["dbm.dumb", "dbm.gnu", "dbm.ndbm", "dbm.sqlite3", "dict"])
def test_mappings(module, codec, tmp_path):
    stored: Any = {} if module == "dict" else pytest.importorskip(module).open(str(tmp_path / "cache"), "c")
    mapping = RecordMapping(stored, codec)
    for number, record in enumerate(RECORDS):
        mapping[b"%d" % number] = record
    del mapping[b"3"]
    assert len(mapping) == len(RECORDS) - 1
    assert b"3" not in mapping
    assert {key: mapping[key] for key in mapping} == {
        b"%d" % number: record for number, record in enumerate(RECORDS) if number != 3
    }
    assert len(stored[b"7"]) < len(RECORDS[7])
    with pytest.raises(KeyError):
        mapping[b"3"]
    if module != "dict":
        stored.close()


def arrays() -> Any:
    """The elements as numpy wants them: text, bytes."""
    np = pytest.importorskip("numpy")
    return (
        np.array([line.decode() for line in LINES] + ["", "é\n"], dtype=object).reshape(2, -1),
        np.array([*LINES, b"", b"\xff\0"], dtype=object).reshape(2, -1),
    )


def test_numcodecs(model):
    numcodecs = pytest.importorskip("numcodecs")
    from chunker.records.numcodecs import RecordsCodec

    numcodecs.registry.register_codec(RecordsCodec)
    codec = RecordsCodec(model, check=1)
    again = numcodecs.get_codec(json.loads(json.dumps(codec.get_config())))
    for layout, array in zip((numcodecs.VLenUTF8(), numcodecs.VLenBytes()), arrays(), strict=True):
        chunk = layout.encode(array)
        encoded = codec.encode(chunk)
        assert len(encoded) < len(chunk) / 3
        assert layout.decode(again.decode(encoded)).tolist() == array.ravel().tolist()
    with pytest.raises(UsageError, match="any length"):
        codec.encode(b"numbers!" * 3)
    with pytest.raises(CorruptArchive):
        codec.decode(encoded[:-1])
    with pytest.raises(WrongModel):
        numcodecs.get_codec({**codec.get_config(), "model_id": "00000000"}).encode(chunk)


@pytest.mark.filterwarnings("ignore:The data type")
def test_zarr(model, tmp_path):
    zarr = pytest.importorskip("zarr", minversion="3.1")
    from zarr.registry import register_codec

    from chunker.records.zarr import RecordsCodec

    register_codec("chunker_records", RecordsCodec)
    for dtype, array in zip(("string", "variable_length_bytes"), arrays(), strict=True):
        place, codec = tmp_path / dtype, RecordsCodec(str(model))
        made = zarr.create_array(place, shape=array.shape, chunks=(1, 20), dtype=dtype, compressors=codec)
        made[:] = array
        again = zarr.open_array(place)
        assert again[:].tolist() == array.tolist()
        assert again[0, 7] == array[0, 7]
        assert MODEL.id.hex() in (place / "zarr.json").read_text()


def test_entry_points_name_the_codecs():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    for group, module in (("numcodecs.codecs", "numcodecs"), ("zarr.codecs", "zarr")):
        line = f'[project.entry-points."{group}"]\nchunker_records = "chunker.records.{module}:RecordsCodec"'
        assert line in text
        assert find_spec(f"chunker.records.{module}") is not None
