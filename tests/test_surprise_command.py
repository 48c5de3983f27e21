"""chunker surprise as a user meets it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import random
import re
import sys
from itertools import accumulate
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


def rows(*args: str | Path, code: int = 0) -> list[dict[str, Any]]:
    """What --json prints, a document a line."""
    return [json.loads(line) for line in call(*map(str, args), "--json", code=code).stdout.splitlines()]


@pytest.mark.parametrize("options", [["--no-model"], ["--no-model", "--fast"], ["--no-model", "--best"]])
def test_strange_lines_are_marked(log, options):
    lines = rows(log, *options)
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
    lines = rows(tmp_path / "log", *options)
    assert min(line["score"] for line in lines) == 0
    assert min(line["bits"] for line in lines) > 0
    assert min(char["bits"] for char in rows(tmp_path / "log", "--by", "char", *options)) >= 0
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
    found = rows(path, "--fast")
    assert {line["line"] for line in found if line["unusual"]} == set(strange)
    dearest = sorted(found, key=lambda line: -line["bits"])[:4]
    assert {line["line"] for line in dearest} != set(strange), "bits alone do not tell them"


def test_bits_are_those_of_the_codec(tmp_path, monkeypatch, tiny_model, stand_in):
    """Of the stand-in: 8 for a byte that is new, 1 for the others; the net wakes for the former."""
    path = tmp_path / "text"
    path.write_bytes(b"abab\nabc\n\nccc")
    characters = rows(path, "--by", "char", "-m", tiny_model.path)
    assert [(row["bits"], row["reach"], row["text"]) for row in characters[:5]] == [
        (8, 1, "a"), (8, 1, "b"), (1, 0, "a"), (1, 0, "b"), (8, 1, "\n"),
    ]  # fmt: skip
    assert [row["offset"] for row in characters] == list(range(13))
    stand_in.calls = 0
    first, second, empty, last = rows(path, "-m", tiny_model.path)
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
    assert not [line for line in rows(path, "--no-model") if line["unusual"]]


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_has_no_lines(tmp_path, content):
    (tmp_path / "empty").write_text(content)
    assert "empty" in call(str(tmp_path / "empty"), code=1).stderr


def test_one_bad_file_does_not_stop_the_others(log):
    result = call(str(log), "missing", "--no-model", "--unusual", code=1)
    assert "missing" in result.stderr
    assert len(result.stdout.splitlines()) == 1 + len(STRANGE)


def test_rows_of_failures(log):
    found = rows(log, "missing", "--no-model", "-n", "1", code=1)
    assert found[0]["name"] == str(log)
    assert (found[1]["name"], "check the name" in found[1]["error"]) == ("missing", True)


# ---- characters, words, lines, fields ------------------------------------------------------------------

# A tab, CRLF, an escape sequence, UTF-8, a byte that is none, what would end a script, a bidi override.
ODD = (
    b"a\tb\r\nred \x1b[31mred caf\xc3\xa9 \xe4\xb8\xad\xe6\x96\x87 \xff </script> \xe2\x80\xae"
    b"\x9b1;2\xc2\x9b x\rlast"
)
SGR = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def odd(tmp_path: Path) -> Path:
    path = tmp_path / "odd"
    path.write_bytes(ODD)
    return path


@pytest.mark.parametrize("by", ["char", "word", "line", "field"])
def test_units_partition_the_text(odd, by):
    found = rows(odd, "--by", by, "--no-model", "--against", "none")
    assert [row["offset"] for row in found] == [0, *accumulate(row["size"] for row in found)][:-1]
    assert sum(row["size"] for row in found) == len(ODD)
    whole = sum(row["bits"] for row in rows(odd, "--by", "char", "--no-model"))
    assert sum(row["bits"] for row in found) == pytest.approx(whole, abs=0.01 * len(ODD))
    assert all(row["bits"] == row["bits_against"] for row in found)


def test_words_and_lines(tmp_path):
    path = tmp_path / "text"
    path.write_text("to be_2, or\nnot\n")
    words = rows(path, "--by", "word", "--fast")
    assert [row["text"] for row in words] == ["to", " ", "be_2", ",", " ", "or", "\n", "not", "\n"]
    assert [(row["line"], row["column"]) for row in words][-3:] == [(1, 12), (2, 1), (2, 4)]
    assert [row["line"] for row in rows(path, "--by", "word", "--fast", "--from", "2")] == [2, 2]


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("a,b c,d\n1,2,3\n", ["a,", "b c,", "d\n", "1,", "2,", "3\n"]),
        ("a;b,c;d\n1;2;3\n", ["a;", "b,c;", "d\n", "1;", "2;", "3\n"]),
        ("a b\tc\n1\t2\n", ["a b\t", "c\n", "1\t", "2\n"]),
        ("INFO a, b\nWARN c\nINFO d\n", ["INFO ", "a, ", "b\n", "WARN ", "c\n", "INFO ", "d\n"]),
    ],
)
def test_fields(tmp_path, text, fields):
    (tmp_path / "table").write_text(text)
    found = rows(tmp_path / "table", "--by", "field", "--fast")
    assert [row["text"] for row in found] == fields
    assert [row["field"] for row in found[:2]] == [1, 2]


@pytest.mark.parametrize("end", ["\r", "\r\n", "\n"])
def test_ends_of_lines(tmp_path, end):
    (tmp_path / "text").write_bytes(f"one{end}two{end}three".encode())
    assert [row["text"] for row in rows(tmp_path / "text", "--fast")] == ["one", "two", "three"]
    shown = call(str(tmp_path / "text"), "--by", "char", "--fast", "--color", "never").stdout
    assert [line.split()[1].rstrip("^M") for line in shown.splitlines()[1:-1:2]] == ["one", "two", "three"]


def test_the_dearest_words(log):
    first, second = rows(log, "--by", "word", "-n", "2", "--fast")
    others = rows(log, "--by", "word", "--fast")
    assert [first["bits"], second["bits"]] == sorted((row["bits"] for row in others), reverse=True)[:2]
    told = call(str(log), "--by", "word", "-n", "2", "--fast").stdout.splitlines()
    assert told[0].split() == [
        str(first["line"]), str(first["column"]), f"{first['bits']:.1f}", first["text"]
    ]  # fmt: skip


# ---- on a terminal -------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", ["char", "word", "field"])
def test_colours_show_the_text_and_nothing_of_it_is_executed(odd, monkeypatch, by):
    monkeypatch.setenv("COLORTERM", "truecolor")
    printed = call(str(odd), "--by", by, "--no-model", "--color", "always").stdout
    plain = SGR.sub("", printed)
    assert printed != plain
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e\udc80-\udcff]", plain)
    legend, *lines, totals = plain.splitlines()
    assert "8 or more" in legend
    assert f"{len(ODD)} bytes" in totals
    assert [line.split(maxsplit=1) for line in lines] == [
        ["1", "a       b^M "],
        ["2", "red ESC[31mred café 中文 <FF> </script> <U+202E><9B>1;2<U+009B> x^M"],
        ["3", "last"],
    ]


def test_colours_are_of_the_bits(tmp_path, monkeypatch, tiny_model, stand_in):
    """Of the stand-in: 8 bits or 1."""
    monkeypatch.setenv("COLORTERM", "truecolor")
    (tmp_path / "text").write_text("aab")
    line = call(str(tmp_path / "text"), "-m", str(tiny_model.path), "--color", "always").stdout.splitlines()[
        1
    ]
    legend = call(str(tmp_path / "text"), "-m", str(tiny_model.path), "--color", "always").stdout
    dear, cheap = (
        legend.splitlines()[0].split(f" {label} ")[0].rpartition("\x1b[")[2]
        for label in ("8 or more", "1 to 2")
    )
    runs = re.findall(r"\x1b\[([0-9;]*m)(\w)", line)
    assert runs == [(dear, "a"), (cheap, "a"), (dear, "b")]


def test_256_colours(odd):
    env = cli_support.environment(COLORTERM="", TERM="xterm-256color")
    printed = cli_support.run("chunker", "surprise", odd, "--fast", "--color", "always", env=env).stdout
    assert b"48;5;" in printed
    assert b"48;2;" not in printed


@pytest.mark.parametrize("options", [["--color", "never"], []])
def test_without_colours_the_bits_stand_below(tmp_path, tiny_model, stand_in, options):
    (tmp_path / "text").write_text("aab\tcc\n")
    printed = call(str(tmp_path / "text"), "--by", "char", "-m", str(tiny_model.path), *options).stdout
    assert "\x1b" not in printed
    assert printed.splitlines()[1:3] == ["     1  aab     cc", "        81888888818"]


def test_rows_of_what_reached_the_levels(tmp_path, monkeypatch, tiny_model, stand_in):
    """Of the stand-in: the net wakes for bytes that are new."""
    (tmp_path / "text").write_text("ab\tab\u4e2dc\n")
    options = [str(tmp_path / "text"), "--by", "char", "-m", str(tiny_model.path), "--levels"]
    printed = call(*options).stdout.splitlines()
    assert printed[1:4] == [
        "     1  ab      ab\u4e2dc",
        "        8888888811++88",
        "        ab        \u4e2dc",
    ]
    monkeypatch.setenv("COLORTERM", "truecolor")
    coloured = SGR.sub("", call(*options, "--color", "always").stdout).splitlines()
    assert coloured[2] == printed[3]


def test_in_a_pipe_lines_are_rows(log):
    assert call(str(log), "--fast").stdout == call(str(log), "--fast", "--by", "line").stdout


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.parametrize("more", [{"NO_COLOR": "1"}, {"TERM": "dumb"}, {}])
def test_on_a_terminal(odd, more):
    import pty

    ours, theirs = pty.openpty()
    base = {"TERM": "xterm-256color", "COLORTERM": "", "NO_COLOR": ""}
    process = cli_support.start(
        "chunker", "surprise", odd, "--fast", stdout=theirs, env=cli_support.environment(**{**base, **more})
    )
    os.close(theirs)
    printed = b""
    with contextlib.suppress(OSError):  # the other end is closed
        while part := os.read(ours, 1 << 16):
            printed += part
    os.close(ours)
    process.communicate()
    assert process.returncode == 0
    assert (b"\x1b[" in printed) == (not more)
    assert "last" in SGR.sub("", printed.decode())


def test_the_picture_in_the_readme(monkeypatch):
    """Whoever changes the first lines, or the built-in model, makes it again with the command above it."""
    monkeypatch.chdir(cli_support.ROOT)
    text = Path("README.md").read_text(encoding="utf-8")
    command, rest = text.split("`chunker surprise README.md ", 1)[1].split("`", 1)
    picture = rest.split("```text\n", 1)[1].split("```", 1)[0]
    assert call("README.md", *command.split()).stdout == picture


# ---- two models ----------------------------------------------------------------------------------------


def test_what_a_model_knows_more(tmp_path, tiny_model):
    path = tmp_path / "text"
    path.write_text("Return the value of the argument.\n")
    found = rows(path, "--by", "char", "-m", tiny_model.path, "--against", "none")
    own, contexts = (
        [row["bits"] for row in rows(path, "--by", "char", *options)]
        for options in (["-m", tiny_model.path], ["--no-model"])
    )
    assert [row["bits"] for row in found] == own
    assert [row["bits_against"] for row in found] == contexts
    assert sum(own) < sum(contexts)
    by_line = call(str(path), "-m", str(tiny_model.path), "--against", "none").stdout.split()
    assert float(by_line[4]) == pytest.approx(sum(contexts) - sum(own), abs=0.11)
    told = call(str(path), "-m", str(tiny_model.path), "--against", "none", "--color", "always").stdout
    assert "more bits under the other model" in told
    assert "tiny" in told.splitlines()[-1]
    assert "contexts alone" in told.splitlines()[-1]


# ---- what cannot be shown ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--unusual", "--by", "word"], "--unusual"),
        (["--unusual", "--against", "none"], "--unusual"),
        (["--html", "x.html", "--json"], "rows"),
        (["--html", "x.html", "--by", "word"], "rows"),
        (["--from", "3", "--to", "2"], "--from"),
        (["second", "--html", "x.html"], "one file"),
    ],
)
def test_options_that_do_not_go_together(log, options, word):
    assert word in call(str(log), *options, code=2).stderr.splitlines()[-1]


def test_binary_is_shown_when_asked(tmp_path):
    path = tmp_path / "binary"
    path.write_bytes(bytes(range(256)) * 2)
    for by in ("char", "line"):
        complaint = cli_support.one_line(call(str(path), "--by", by, "--fast", code=1).stderr.encode())
        assert "-f" in complaint
    assert len(rows(path, "--by", "line", "--fast", "-f")) > 1
    assert sum(row["size"] for row in rows(path, "--by", "char", "--fast", "-f")) == 512


@pytest.mark.parametrize("options", [["--by", "char"], ["--html", "out.html"]])
def test_an_empty_file_has_no_characters(tmp_path, monkeypatch, options):
    monkeypatch.chdir(tmp_path)
    Path("empty").touch()
    assert "is empty" in cli_support.one_line(call("empty", *options, code=1).stderr.encode())
    assert not Path("out.html").exists()


def test_too_much_is_refused_before_the_work(tmp_path, monkeypatch):
    path = tmp_path / "large"
    path.write_bytes(b"0123456\n" * (1 << 18) + b"more")
    complaint = call(str(path), "--html", str(tmp_path / "x.html"), "--fast", code=1).stderr
    assert "--from and --to" in cli_support.one_line(complaint.encode())
    last = rows(path, "--fast", "--by", "line", "--against", "none", "--from", str((1 << 18) - 1))
    assert [(row["line"], row["text"]) for row in last][-1] == ((1 << 18) + 1, "more")
    assert "--from" in call(str(path), "--fast", "--from", "900000", code=1).stderr


def test_a_model_that_does_not_fit(log, tmp_path):
    (tmp_path / "bad.safetensors").write_text("no model")
    for option in ("-m", "--against"):
        complaint = call(str(log), "--by", "char", option, str(tmp_path / "bad.safetensors"), code=1).stderr
        cli_support.one_line(complaint.encode())
