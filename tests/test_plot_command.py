"""`chunker plot` and `chunker train --plot`: curves from logs, whole or cut, and what cannot be drawn."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import cli_support
import pytest

from chunker import extras
from chunker.cli.plot import plot
from chunker.errors import CorpusError, UsageError
from chunker.views.curves import draw_logs, read_log

call = functools.partial(cli_support.call, plot)
drawing = pytest.mark.skipif(not extras.has("plot"), reason="needs matplotlib")
BEGINNINGS = {".png": b"\x89PNG", ".svg": b"<?xml", ".pdf": b"%PDF", ".html": b"<!doctype html>"}


def point(at: int, **more: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "bytes": 1000 * at,
        "seconds": 2.0 * at,
        "bits_per_byte": 8 / at,
        "level_bits_per_byte": [8.5 / at],
        "rates": [1.0, 0.25 / at],
        "learning_rate": 0.01,
    }
    return {**found, **more}


def write(path: Path, points: list[dict[str, Any]], rest: str = "") -> Path:
    path.write_text("".join(json.dumps(each) + "\n" for each in points) + rest)
    return path


@pytest.fixture
def log(tmp_path: Path) -> Path:
    points = [point(at) for at in range(1, 30)] + [point(30, validation_bits_per_byte=0.3)]
    return write(tmp_path / "mine.safetensors.jsonl", points)


def test_curves_of_a_log(log):
    found = read_log(log)
    assert found.name.endswith("mine.safetensors")
    assert found.levels == 2
    assert found.curve("bytes", "bits_per_byte")[0][:2] == [1000, 2000]
    assert found.curve("seconds", "rates", 1) == (
        [2.0 * at for at in range(1, 31)],
        [0.25 / at for at in range(1, 31)],
    )
    assert found.curve("bytes", "validation_bits_per_byte") == ([30_000], [0.3])
    assert found.curve("bytes", "level_bits_per_byte", 3) == ([], [])


def test_a_log_that_is_being_written(tmp_path):
    assert len(read_log(write(tmp_path / "log.jsonl", [point(1)], '{"bytes": 20')).points) == 1


@pytest.mark.parametrize(
    "rest", ["no json\n", "[]\n", '{"bytes": 5}\n', json.dumps(point(1, bits_per_byte=None))]
)
def test_what_is_no_log(tmp_path, rest):
    with pytest.raises(UsageError, match="line 1"):
        read_log(write(tmp_path / "log.jsonl", [], rest))
    (tmp_path / "empty").touch()
    with pytest.raises(CorpusError, match="wait"):
        read_log(tmp_path / "empty")


@drawing
@pytest.mark.parametrize("suffix", BEGINNINGS)
@pytest.mark.parametrize("over", ["bytes", "seconds"])
def test_a_picture(log, tmp_path, suffix, over):
    picture = tmp_path / f"curves{suffix}"
    told = call(str(log), str(log), "-o", str(picture), "--over", over).stdout
    assert "2 runs, 60 points" in told
    assert picture.read_bytes().startswith(BEGINNINGS[suffix])
    if suffix == ".html":
        assert "mine.safetensors" in picture.read_text()
        assert "<!DOCTYPE svg" not in picture.read_text()


@drawing
def test_one_level_and_one_point(tmp_path):
    single = write(tmp_path / "log.jsonl", [point(1, rates=[1.0], level_bits_per_byte=None)])
    draw_logs([read_log(single)], tmp_path / "curves.svg")
    assert "share of bytes" not in (tmp_path / "curves.svg").read_text()


@drawing
def test_one_bad_log_does_not_stop_the_others(log, tmp_path):
    result = call(str(log), "missing", "-o", str(tmp_path / "curves.svg"), code=1)
    assert "missing" in cli_support.one_line(result.stderr.encode())
    assert (tmp_path / "curves.svg").exists()


@drawing
@pytest.mark.parametrize("name", ["curves.gif", "curves", "no/such/folder/curves.png"])
def test_pictures_that_cannot_be(log, tmp_path, name):
    result = cli_support.run("chunker", "plot", log, "-o", tmp_path / name)
    assert result.returncode == 1
    assert name.rpartition("/")[2] in cli_support.one_line(result.stderr)


@pytest.mark.skipif(extras.has("plot"), reason="matplotlib is installed")
def test_the_extra_is_named(log, tmp_path):
    result = cli_support.run("chunker", "plot", log, "-o", tmp_path / "curves.png")
    assert '".[plot]"' in cli_support.one_line(result.stderr)
