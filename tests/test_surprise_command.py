"""chunker surprise as a user meets it."""

from __future__ import annotations

import functools
import json
import random
from pathlib import Path
from typing import Any

import cli_support
import pytest

from chunker.cli.surprise import surprise

STRANGE = {17: "kernel panic: not syncing", 60: "segfault at 0000 ip"}
call = functools.partial(cli_support.call, surprise)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    draw = random.Random(0)
    lines = [f"step {draw.randint(100, 999)}: all is well with node {draw.randint(0, 9)}" for _ in range(80)]
    for number, text in STRANGE.items():
        lines[number - 1] = text
    path = tmp_path / "log"
    path.write_text("\n".join(lines) + "\n")
    return path


def lines_of(*args: str) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = json.loads(call(*args, "--json").stdout)["files"][0]["lines"]
    return lines


@pytest.mark.parametrize("options", [["--no-model"], ["--fast"], ["--no-model", "--best"]])
def test_strange_lines_are_marked(log, options):
    lines = lines_of(str(log), *options)
    assert [line["line"] for line in lines] == list(range(1, 81))
    assert {line["line"] for line in lines if line["unusual"]} == set(STRANGE)
    assert all(line["bits"] > 0 and line["woken_share"] == 0 for line in lines)
    printed = call(str(log), *options, "--unusual").stdout.splitlines()
    assert [int(line.split()[1]) for line in printed] == sorted(STRANGE)
    assert all(line.startswith("!") for line in printed)
    most = call(str(log), *options, "-n", "1").stdout.splitlines()
    assert int(most[0].split()[1]) in STRANGE


@pytest.mark.parametrize("options", [["--no-model"], ["--fast"]])
def test_short_lines_have_no_negative_surprise(tmp_path, options):
    """Among long lines full of numbers, which cost much, a short one is below the median."""
    draw = random.Random(2)
    long = [" ".join(str(draw.randrange(10**9)) for _ in range(8)) for _ in range(40)]
    texts = [text for pair in zip(long, ["", "x", "ok", "."] * 10, strict=True) for text in pair]
    (tmp_path / "log").write_text("\n".join(texts) + "\n")
    lines = lines_of(str(tmp_path / "log"), "--bytes", *options)
    assert min(line["score"] for line in lines) == 0
    assert min(line["bits"] for line in lines) > 0
    assert min(bit for line in lines for bit in line["byte_bits"]) >= 0
    assert "-" not in call(str(tmp_path / "log"), *options).stdout


def test_random_numbers_hide_nothing(tmp_path):
    """Every line holds an identifier of its own, which costs more than what is strange in a strange line."""
    draw = random.Random(1)

    def identifier() -> str:
        return str(draw.randrange(10**18, 10**19))

    templates = [
        "{} INFO dfs.DataNode: Receiving block blk_{} from node {}",
        "{} INFO dfs.DataNode: PacketResponder {} for block blk_{} terminating",
        "{} INFO dfs.FSNamesystem: block map updated: blk_{} is added to blk_{}",
    ]
    lines = [draw.choice(templates).format(*(identifier() for _ in range(3))) for _ in range(400)]
    strange = {
        50: "{} INFO dfs.DataNode: Receiving block blk_{} from nowhere {}",
        150: "{} INFO dfs.DataNode: PacketResponder {} terminating for block blk_{}",
        250: "{} WARN dfs.DataNode: Receiving block blk_{} from node {}",
        350: "{} INFO dfs.FSNamesystem: block map lost: blk_{} is added to blk_{}",
    }
    for number, template in strange.items():
        lines[number - 1] = template.format(*(identifier() for _ in range(3)))
    path = tmp_path / "log"
    path.write_text("\n".join(lines) + "\n")
    found = lines_of(str(path), "--fast")
    assert {line["line"] for line in found if line["unusual"]} == set(strange)
    dearest = sorted(found, key=lambda line: -line["bits"])[:4]
    assert {line["line"] for line in dearest} != set(strange), "bits alone do not tell them"


def test_bits_are_those_of_the_codec(tmp_path, monkeypatch, tiny_model, stand_in):
    """Of the stand-in: 8 for a byte that is new, 1 for the others; the net wakes for the former."""
    path = tmp_path / "text"
    path.write_bytes(b"abab\nabc\n\nccc")
    first, second, empty, last = lines_of(str(path), "--bytes", "-m", str(tiny_model.path))
    assert first["byte_bits"] == [8, 8, 1, 1, 8]
    assert first["byte_levels"] == [1, 1, 0, 0, 1]
    assert (first["bits"], first["bits_per_byte"], first["woken_share"]) == (26, 5.2, 0.6)
    assert (second["bits"], second["text"]) == (1 + 1 + 8 + 1, "abc")
    assert (empty["bits"], empty["text"]) == (1, "")
    assert (last["bits"], last["text"]) == (4, "ccc")
    assert [line["score"] for line in (first, second, empty, last)] != [0] * 4
    assert stand_in.calls == 2, "from both ends"
    told = call(str(path), "-m", str(tiny_model.path)).stdout.splitlines()
    assert told[0].split() == ["1", "26.0", "60%", f"{first['score']:.1f}", "abab"]
    assert len(told) == 4


def test_the_first_of_many_alike_is_not_unusual(tmp_path):
    path = tmp_path / "log"
    path.write_text("a line that comes again and again, with all its words\n" * 200)
    assert not [line for line in lines_of(str(path), "--no-model") if line["unusual"]]


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_has_no_lines(tmp_path, content):
    (tmp_path / "empty").write_text(content)
    assert "empty" in call(str(tmp_path / "empty"), code=1).stderr


def test_bytes_are_for_json(log):
    assert "--json" in call(str(log), "--bytes", code=2).stderr


def test_one_bad_file_does_not_stop_the_others(log):
    result = call(str(log), "missing", "--no-model", "--unusual", code=1)
    assert "missing" in result.stderr
    assert len(result.stdout.splitlines()) == 1 + len(STRANGE)
