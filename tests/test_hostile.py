"""Files that somebody made to do harm: an error of one line, in little memory, whatever they claim."""

from __future__ import annotations

import json
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_support import call, one_line, run

from chunker.cli.main import chunker
from chunker.errors import ChunkerError
from chunker.models import load_model
from chunker.records.model import load_record_model

GOOD = (Path(__file__).parent / "golden" / "tiny.safetensors").read_bytes()
SIZE = int.from_bytes(GOOD[:8], "little")
HEADER: dict[str, Any] = json.loads(GOOD[8 : 8 + SIZE])
META: dict[str, Any] = json.loads(HEADER["__metadata__"]["chunker"])
BODY = GOOD[8 + SIZE :]
FIRST, SECOND = [name for name in HEADER if name != "__metadata__"][:2]
EMPTY = {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]}
DEEP = "[" * 100_000 + "]" * 100_000


def with_header(header: dict[str, Any] | bytes, body: bytes = BODY) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + body


def described(text: str) -> bytes:
    return with_header({**HEADER, "__metadata__": {"chunker": text}})


def told(**fields: Any) -> bytes:
    return described(json.dumps({**META, **fields}))


def configured(**fields: Any) -> bytes:
    return told(config={**META["config"], **fields})


def first(**fields: Any) -> bytes:
    """The first tensor's entry says something else."""
    return with_header({**HEADER, FIRST: {**HEADER[FIRST], **fields}})


MODELS = {
    "nothing": b"",
    "no header": b"\x02" + bytes(7),
    "a header that is longer than it": (1 << 20).to_bytes(8, "little") + GOOD[8:],
    "a header of petabytes": b"\xff" * 8 + GOOD[8:],
    "a list": with_header(b"[1]", b""),
    "bytes that are no text": with_header(b'{"\xff":1}', b""),
    "a header nested deep": with_header(b'{"a":' + DEEP.encode() + b"}", b""),
    "metadata nested deep": described(DEEP),
    "a kind nested deep": described('{"version":1,"kind":' + DEEP + "}"),
    "metadata of another type": with_header({**HEADER, "__metadata__": {"chunker": 5}}),
    "a version of 5000 digits": described('{"version":' + "9" * 5000 + "}"),
    "a version that is none": described('{"version":NaN}'),
    "a version below 1": told(version=-5),
    "a kind that moves the cursor": told(kind="\x1b[2J\n\nx" * 1000),
    "a configuration that is a list": told(config=[1, 2]),
    "a field that moves the cursor": configured(**{"\x1b[2J\n": 1}),
    "levels of 16,384": configured(levels=[16384] * 16),
    "many levels": configured(levels=[1] * 50_000),
    "levels below 0": configured(levels=[-1]),
    "an alphabet of 10^30": configured(symbols=10**30),
    "an alphabet that does not fit": configured(symbols=65536),
    "n-grams of gigabytes": configured(ngrams={"orders": [*range(1, 9)], "rows": 1 << 20, "width": 16384}),
    "a gate that is not a number": configured(gate={"rule": "argmax", "value": float("nan")}),
    "a gate without end": configured(gate={"rule": "argmax", "value": float("inf")}),
    "a gate beyond floats": configured(gate={"rule": "argmax", "value": 10**400}),
    "a time code that is a list": configured(time_code=[1]),
    "tensors that overlap": first(data_offsets=HEADER[SECOND]["data_offsets"]),
    "a tensor beyond the end": first(data_offsets=[0, 10**18]),
    "a tensor before the beginning": first(data_offsets=[-5, 10]),
    "a shape of 2^80": first(shape=[2**40, 2**40]),
    "a tensor of another type": first(dtype="F64"),
    "a tensor named as a path": with_header({**HEADER, "../../secret": EMPTY}),
    "a tensor with a zero byte in its name": with_header({**HEADER, "a\0b": EMPTY}),
    "something behind the end": GOOD + b"x",
    "something missing at the end": GOOD[:-1],
}


def assert_refused(load: Callable[[Path], object], path: Path) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ChunkerError) as caught:
            load(path)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    text = str(caught.value).removeprefix(str(path))
    assert text.isprintable()
    assert 0 < len(text) < 600


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("load", [load_model, load_record_model])
def test_hostile_models(load, name, tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(MODELS[name])
    assert_refused(load, path)


def test_a_model_of_a_terabyte_of_nothing_is_not_read(tmp_path):
    path = tmp_path / "m.safetensors"
    path.write_bytes(GOOD)
    with open(path, "ab") as file:
        file.truncate(1 << 40)  # a hole
    assert_refused(load_model, path)


def test_what_a_file_says_cannot_move_the_cursor(tmp_path):
    """Nor on the command line."""
    path = tmp_path / "m.safetensors"
    path.write_bytes(MODELS["a field that moves the cursor"])
    (tmp_path / "a").write_bytes(b"abc")
    result = call(chunker, "compress", str(tmp_path / "a"), "-m", str(path), code=1)
    assert result.stderr.rstrip("\n").isprintable()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere only the threads are fewer")
def test_memory_is_limited(tmp_path):
    """Whatever the process would take beyond the limit is one line, and the limit counts threads."""
    (tmp_path / "a").write_bytes(b"abc" * 1000)
    limit = "import resource as r, atexit; atexit.register(lambda: print(r.getrlimit(r.RLIMIT_DATA)[0]))"
    done = run("chunker", "compress", tmp_path / "a", "-q", "--memory", "300M", "-T", "16", before=limit)
    assert (done.returncode, done.stdout) == (0, b"300000000\n")
    done = run("chunker", "test", tmp_path / "a.nhc", "--memory", "100M")
    assert done.returncode == 2
    assert "take 240M" in one_line(done.stderr)
    greedy = "import chunker.codec.pipes as p; p.unpack = lambda *given, **named: bytes(500_000_000)"
    done = run("chunker", "test", tmp_path / "a.nhc", "--memory", "300M", before=greedy)
    assert done.returncode == 1
    assert "out of memory" in one_line(done.stderr)
