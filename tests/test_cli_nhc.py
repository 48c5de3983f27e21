"""`nhc` behaves as people and tar expect of something in gzip's shape."""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import cli_support
import click
import pytest
from cli_support import ROOT, TEXT, environment

from chunker.cli.nhc import as_click_reads, nhc
from chunker.core.backend import backend
from chunker.version import __version__


@pytest.fixture(autouse=True)
def model(tmp_path, monkeypatch, tiny_model) -> str:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_bytes(TEXT)
    return str(tiny_model.path)


call = functools.partial(cli_support.call, nhc)
PROSE = b"Return the value of the given name as a string if it is in the list, or None. " * 3


@pytest.mark.parametrize(
    ("given", "left"),
    [
        (["-1"], ["--fast"]),
        (["-2"], ["--fast"]),
        (["-2c", "f"], ["--fast", "-c", "f"]),
        (["-9", "--fast"], ["--fast"]),
        (["-9", "f"], ["--best", "f"]),
        (["-9c", "f"], ["--best", "-c", "f"]),
        (["-c9", "f"], ["--best", "-c", "f"]),
        (["-7", "f"], ["--best", "f"]),
        (["-3", "f"], ["--fast", "f"]),
        (["-4", "f"], ["f"]),
        (["-d6k"], ["-dk"]),
        (["-1", "-9"], ["--best"]),
        (["-1", "-6"], []),
        (["--best", "-6"], []),
        (["--fast", "--best", "-c"], ["--best", "-c"]),
        (["--best", "--fast", "-c"], ["--fast", "-c"]),
        (["-T4", "-9"], ["--best", "-T4"]),
        (["-T", "4"], ["-T", "4"]),
        (["-9T4"], ["--best", "-T4"]),
        (["-9T", "4"], ["--best", "-T", "4"]),
        (["-o", "-9", "-9"], ["--best", "-o", "-9"]),
        (["-o9", "f"], ["-o9", "f"]),
        (["--output", "-9"], ["--output", "-9"]),
        (["--output=-9"], ["--output=-9"]),
        (["--threads", "12"], ["--threads", "12"]),
        (["-", "--", "-9", "-19"], ["-", "--", "-9", "-19"]),
        (["-o"], ["-o"]),
        (["--decomp", "--st", "f"], ["--decompress", "--stdout", "f"]),
        (["--to", "--unc"], ["--to-stdout", "--uncompress"]),
        (["--fas", "--th=3"], ["--fast", "--threads=3"]),
        (["--suf", ".x", "--bes"], ["--best", "--suffix", ".x"]),
        (["--out", "--best"], ["--output", "--best"]),
        (["-rS", "-9"], ["-rS", "-9"]),
        (["--he"], ["--help"]),
        (["--nonsense", ""], ["--nonsense", ""]),
        ([], []),
    ],
)
def test_levels_are_taken_out(given, left):
    assert as_click_reads(given, nhc) == left


@pytest.mark.parametrize("given", ["-19", "-0", "-10", "-c19", "-22c", "-99"])
def test_what_is_no_level_is_no_two_flags(given):
    with pytest.raises(click.UsageError, match="one level, from -1 to -9"):
        as_click_reads([given], nhc)
    assert cli_support.one_line(call(given, "a.txt", code=1).stderr_bytes).startswith("nhc: ")
    assert os.listdir() == ["a.txt"]


def test_there_and_back_in_silence(model):
    result = call("a.txt", "-m", model)
    assert result.output == ""
    assert Path("a.txt").exists()
    os.rename("a.txt", "before")
    assert call("-d", "a.txt.nhc", "-m", model).output == ""
    assert Path("a.txt").read_bytes() == TEXT
    assert "exists; replace it with -f" in call("-d", "a.txt.nhc", "-m", model, code=2).stderr
    call("-df", "a.txt.nhc", "-m", model)


def contexts_of(packed: bytes) -> str:
    """Which contexts the only block of an archive was coded with."""
    Path("coded.nhc").write_bytes(packed)
    (settings,) = json.loads(call("-l", "--json", "coded.nhc").stdout)["archives"][0]["settings"]
    return str(settings["contexts"])


@pytest.mark.parametrize(
    ("levels", "contexts"),
    [
        (["-1", "-2", "-3", "--fast"], "few"),
        (["-4", "-5", "-6", "-q"], "many"),
        (["-7", "-8", "-9", "--best"], "all"),
    ],
)
def test_levels(model, levels, contexts):
    for level in levels:
        packed = call(level, "-c", "-m", model, stdin=PROSE).stdout_bytes
        assert contexts_of(packed) == contexts
        assert call("-dc", "-m", model, stdin=packed).stdout_bytes == PROSE


@pytest.mark.parametrize("args", [["--no-model"], ["--no-model", "-1"], ["-m", "text", "--no-model", "-9"]])
def test_no_model(args):
    packed = call(*args, stdin=PROSE).stdout_bytes
    assert call("-d", stdin=packed).stdout_bytes == PROSE
    Path("p.nhc").write_bytes(packed)
    assert json.loads(call("-l", "--json", "p.nhc").stdout)["archives"][0]["models"] == []


def test_filter(model):
    packed = call("-9", "-m", model, stdin=TEXT).stdout_bytes
    assert call("-d", "-m", model, stdin=packed).stdout_bytes == TEXT
    assert call("-dc", "-", "-m", model, stdin=packed).stdout_bytes == TEXT
    call("-o", "out.nhc", "-m", model, stdin=TEXT)
    assert call("-dc", "out.nhc", "-m", model).stdout_bytes == TEXT


@pytest.mark.parametrize(
    ("flag", "out"), [("-d", "--stdout"), ("--decompress", "--to-stdout"), ("--uncompress", "-c")]
)
def test_long_names(model, flag, out):
    packed = call("-c", "--threads", "1", "--model", model, "a.txt").stdout_bytes
    Path("p.nhc").write_bytes(packed)
    assert call(flag, out, "p.nhc", "--model", model).stdout_bytes == TEXT


def test_keep_and_remove(model):
    call("-k", "-n", "a.txt", "-m", model)
    assert sorted(os.listdir()) == ["a.txt", "a.txt.nhc"]
    call("-f", "--rm", "a.txt", "-m", model)
    assert os.listdir() == ["a.txt.nhc"]
    call("-d", "--rm", "a.txt.nhc", "-m", model)
    assert os.listdir() == ["a.txt"]


@pytest.mark.parametrize(
    "args", [["-k", "--rm"], ["-t", "-l"], ["-t", "--rm"], ["-c", "--rm"], ["-T", "x"], ["--json"]]
)
def test_contradictions(args):
    assert cli_support.one_line(call("a.txt", *args, code=1).stderr_bytes).startswith("nhc: ")
    assert os.listdir() == ["a.txt"]


def test_failed_source_is_not_removed(model):
    Path("a.txt.nhc").write_bytes(b"not an archive")
    assert call("-d", "--rm", "-f", "a.txt.nhc", "-m", model, code=1).stderr.startswith("nhc: a.txt.nhc: ")
    assert Path("a.txt.nhc").exists()
    assert Path("a.txt").read_bytes() == TEXT


def test_test_list_and_verbose(model):
    shown = call("-v", "a.txt", "-m", model)
    assert shown.stdout == ""
    assert shown.stderr.startswith(f"a.txt: {len(TEXT)} -> ")
    assert call("-v", "-q", "-f", "a.txt", "-m", model).output == ""
    assert call("-t", "a.txt.nhc", "-m", model).output == ""
    assert "a.txt.nhc" in call("-l", "a.txt.nhc").stdout
    assert json.loads(call("-l", "--json", "a.txt.nhc").stdout)["archives"][0]["bytes_in"] == len(TEXT)
    assert call("-t", "a.txt", "-m", model, code=1).stderr.startswith("nhc: a.txt: ")
    assert call("-V").stdout == f"nhc {__version__} ({backend().name})\n"


def test_abbreviations_of_several_options():
    message = cli_support.one_line(call("--s", "a.txt", code=1).stderr_bytes)
    assert message.startswith("nhc: option --s is ambiguous: --silent, --stdout, --suffix")


def test_testing_says_ok_if_asked(model):
    call("a.txt", "-m", model)
    assert call("-tv", "a.txt.nhc", "-m", model).stderr.endswith(", OK\n")


# ---- gzip's manners --------------------------------------------------------------------------------


def test_a_second_time_warns(model):
    """`nhc *.txt*`: what is done already is left as it is."""
    Path("b.txt").write_bytes(TEXT)
    assert call("a.txt", "b.txt", "-m", model).output == ""
    before = {name: Path(name).read_bytes() for name in os.listdir()}
    again = call(*sorted(os.listdir()), "-m", model, code=2).stderr.splitlines()
    assert [line.split("; ")[0] for line in again] == [
        "nhc: a.txt: a.txt.nhc exists",
        "nhc: a.txt.nhc: has the suffix .nhc already",
        "nhc: b.txt: b.txt.nhc exists",
        "nhc: b.txt.nhc: has the suffix .nhc already",
    ]
    assert call("-q", *sorted(os.listdir()), "-m", model, code=2).output == ""
    assert {name: Path(name).read_bytes() for name in os.listdir()} == before


@pytest.mark.parametrize("args", [["a.txt.nhc"], ["-d", "a.txt"], ["folder"], ["-d", "folder"]])
def test_what_is_left_as_it_is_ends_with_2(args):
    Path("a.txt.nhc").write_bytes(b"")
    os.mkdir("folder")
    cli_support.one_line(call(*args, code=2).stderr_bytes)
    assert "No such file" in call(*args, "missing", code=1).stderr, "an error is worse"


def test_decompressing_finds_the_suffix(model):
    call("--rm", "a.txt", "-m", model)
    assert call("-l", "a.txt").stdout.splitlines()[1].startswith("a.txt.nhc ")
    call("-t", "a.txt", "-m", model)
    call("-d", "a.txt", "-m", model)
    assert Path("a.txt").read_bytes() == TEXT


def test_suffixes_of_ones_own(model):
    call("-S", ".x", "a.txt", "-m", model)
    assert sorted(os.listdir()) == ["a.txt", "a.txt.x"]
    assert "has the suffix .x already" in call("-S", ".x", "a.txt.x", "-m", model, code=2).stderr
    os.unlink("a.txt")
    call("-d", "--suffix=.x", "a.txt", "-m", model)
    assert Path("a.txt").read_bytes() == TEXT
    for wrong in ("", "/x"):
        assert "no suffix" in cli_support.one_line(call("-S", wrong, "a.txt", code=1).stderr_bytes)


def test_directories(model):
    os.makedirs("d/deep")
    contents = {"d/one": b"1", "d/deep/two": b"2"}
    for name, content in contents.items():
        Path(name).write_bytes(content)
    os.symlink("one", "d/link")

    def files_in() -> list[str]:
        return sorted(str(path) for path in Path("d").rglob("*") if path.is_file() and not path.is_symlink())

    call("-r", "--rm", "d", "-m", model)
    assert files_in() == ["d/deep/two.nhc", "d/one.nhc"]
    assert call("-r", "d", "-m", model).output == "", "archives are not packed again"
    Path("d/plain").write_bytes(b"plain")
    listed = call("-lr", "d").stdout
    assert "d/one.nhc" in listed
    assert "plain" not in listed
    call("-tr", "d", "-m", model)
    call("-dr", "d", "-m", model)
    assert (
        call("-dr", "-m", model, stdin=call("-r", "-m", model, stdin=TEXT).stdout_bytes).stdout_bytes == TEXT
    )
    assert {name: Path(name).read_bytes() for name in contents} == contents


@pytest.mark.parametrize("plain", [b"plain text\n", b"", b"\xa7", b"\xa7NX", bytes(1 << 18)])
def test_plain_files_pass_through(model, plain):
    Path("plain").write_bytes(plain)
    call("a.txt", "-m", model)
    assert call("-dcf", "plain", "a.txt.nhc", "plain", "-m", model).stdout_bytes == plain + TEXT + plain
    assert call("-df", stdin=plain).stdout_bytes == plain
    call("-dc", "plain", code=1)
    call("-df", "plain", "-o", "copy", code=1)
    assert not Path("copy").exists()


def test_padding_is_told(model):
    packed = call("-c", "a.txt", "-m", model).stdout_bytes
    Path("tape.nhc").write_bytes(packed + bytes(512 - len(packed) % 512))
    done = call("-dc", "tape.nhc", "-m", model)
    assert done.stdout_bytes == TEXT
    assert "zero bytes behind the archive are ignored" in cli_support.one_line(done.stderr_bytes)
    assert call("-dcq", "tape.nhc", "-m", model).stderr == ""


def test_a_cut_archive_is_written_as_far_as_it_goes(model):
    packed = call("-c", "-m", model, stdin=PROSE).stdout_bytes
    done = call("-dc", "-m", model, stdin=packed[:-3], code=1)
    assert done.stdout_bytes == PROSE
    assert "cut off" in cli_support.one_line(done.stderr_bytes)


@pytest.mark.skipif(shutil.which("tar") is None or os.name != "posix", reason="needs tar")
@pytest.mark.parametrize("many", [False, True])
def test_tar(model, many):
    script = Path("nhc")
    script.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        f"sys.argv[1:1] = ['--fast', '-m', {model!r}]\nfrom chunker.cli.nhc import main\nmain()\n"
    )
    script.chmod(0o755)
    os.mkdir("folder")
    Path("folder/first").write_bytes(TEXT)
    if many:  # tar stops reading after the wanted file, long before the end
        Path("folder/second").write_bytes(os.urandom(1 << 19))

    def tar(*args: str) -> subprocess.CompletedProcess[bytes]:
        command = ["tar", "-I", str(script.absolute()), *args]
        return subprocess.run(command, env=environment(), capture_output=True, timeout=600, check=False)

    done = tar("-cf", "x.tar.nhc", "folder/first", *(["folder/second"] if many else []))
    assert (done.returncode, done.stderr) == (0, b"")
    os.rename("folder", "original")
    done = tar("-xf", "x.tar.nhc", "--occurrence=1", "folder/first")
    assert (done.returncode, done.stderr) == (0, b"")
    assert Path("folder/first").read_bytes() == TEXT
