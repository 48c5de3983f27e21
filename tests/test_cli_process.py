"""What only shows in processes of their own: imports, signals, closed pipes, full disks, rights,
terminals."""

from __future__ import annotations

import contextlib
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cli_support import TEXT, call, command, environment, one_line, run, start

from chunker.cli import files
from chunker.cli.nhc import nhc
from chunker.codec.stream import compress

pytestmark = pytest.mark.skipif(os.name != "posix", reason="POSIX signals and files")

HEAVY = ("numpy", "rich", "safetensors", "torch")
FULL = Path("/dev/full")
# More than a pipe holds: when it is written, the reader has opened its target and is at work.
MANY_BYTES = 1 << 18


@pytest.fixture(autouse=True)
def model(tmp_path, monkeypatch, tiny_model) -> str:
    monkeypatch.chdir(tmp_path)
    return str(tiny_model.path)


@pytest.fixture
def noise() -> bytes:
    """What is stored rather than coded, so that much of it is quick."""
    return os.urandom(1 << 20)


@pytest.mark.parametrize(
    "args", [["--help"], ["compress", "--help"], ["list", "raw.nhc"], ["list", "--json", "raw.nhc"]]
)
def test_quick_commands_import_little(model, args):
    Path("raw").write_bytes(os.urandom(5000))
    assert run("chunker", "compress", "raw", "-m", model, "-q").returncode == 0
    tell = (
        f"import atexit, sys; atexit.register(lambda: print({HEAVY!r} & sys.modules.keys(), file=sys.stderr))"
    )
    done = run("chunker", *args, before=tell.replace(f"{HEAVY!r}", f"set({HEAVY!r})"))
    assert done.returncode == 0
    assert done.stderr == b"set()\n"


@pytest.mark.parametrize(
    "args",
    [
        ["compress", "text", "-f"],
        ["compress", "text", "-f", "--fast"],
        ["decompress", "text.nhc", "-f"],
        ["test", "text.nhc"],
        ["list", "text.nhc"],
    ],
)
def test_coding_needs_neither_numpy_nor_what_draws(model, args):
    Path("text").write_bytes(TEXT * 20)
    assert run("chunker", "compress", "text", "-m", model, "-q").returncode == 0
    heavy = "{'numpy', 'rich', 'torch'}"
    tell = (
        f"import atexit, sys; atexit.register(lambda: print({heavy} & sys.modules.keys(), file=sys.stderr))"
    )
    done = run("chunker", *args, *([] if args[0] == "list" else ["-m", model]), before=tell)
    assert (done.returncode, done.stderr) == (0, b"set()\n")


def test_the_coding_half_needs_no_torch(model):
    Path("a").write_bytes(TEXT)
    block = "import sys; sys.modules['torch'] = None"
    assert run("chunker", "compress", "a", "-m", model, before=block).returncode == 0
    assert run("chunker", "decompress", "a.nhc", "-o", "b", "-m", model, before=block).returncode == 0
    assert Path("b").read_bytes() == TEXT


@pytest.mark.parametrize("program", ["chunker", "nhc"])
def test_an_interrupt_while_the_commands_are_imported_ends_in_silence(program):
    blow = "import os, signal, sys; sys.meta_path.insert(0, type('Blow', (), {'find_spec': staticmethod("
    blow += "lambda name, *rest: os.kill(os.getpid(), signal.SIGINT) if name == 'click' else None)}))"
    done = run(program, "--version", before=blow)
    assert (done.returncode, done.stdout, done.stderr) == (-signal.SIGINT, b"", b"")


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a limit of addresses does not hold")
@pytest.mark.parametrize("megabytes", [24, 40, 50, 60, 80])
@pytest.mark.parametrize("args", [["compress", "text"], ["decompress", "text.nhc", "-f"]])
def test_too_little_memory_is_one_line(args, megabytes):
    """As after `ulimit -v`: whatever cannot be loaded, or started."""
    Path("text").write_bytes(TEXT * 20)
    Path("text.nhc").write_bytes(compress(TEXT * 20))
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({megabytes << 20},) * 2)"
    done = run("chunker", *args, "-f", "-q", before=limit)
    if done.returncode:
        assert done.returncode == 1
        assert "limit (ulimit -v)" in one_line(done.stderr)
        assert "Traceback" not in one_line(done.stderr)
    else:
        assert done.stderr == b""


HIDDEN = "import os; vars(os).pop('O_TMPFILE', None)"  # files that are written have names meanwhile


@pytest.mark.parametrize("before", ["pass", HIDDEN])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_leave_no_partial_file(model, noise, number, code, before):
    Path("out.nhc").write_bytes(b"old")
    with start("nhc", "-f", "-o", "out.nhc", "-m", model, before=before) as process:
        assert process.stdin is not None
        process.stdin.write(noise[:MANY_BYTES])
        process.stdin.flush()
        if before == HIDDEN:
            assert len(os.listdir()) == 2, "the test wants it at work"
        process.send_signal(number)
        assert process.stderr is not None
        message = process.stderr.read()
    assert process.returncode == code
    assert one_line(message).startswith("nhc: ")
    assert os.listdir() == ["out.nhc"]
    assert Path("out.nhc").read_bytes() == b"old"


@pytest.mark.skipif(not files._can_be_unnamed(""), reason="needs files without names")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT])
def test_nothing_is_left_whatever_ends_it(model, noise, number):
    with start("nhc", "-o", "out.nhc", "-m", model) as process:
        assert process.stdin is not None
        process.stdin.write(noise[:MANY_BYTES])
        process.stdin.flush()
        process.send_signal(number)
    assert process.returncode == -number
    assert not [name for name in os.listdir() if name != "core"]


def test_closed_pipe(model, noise):
    for name in ("a", "b", "c", "d"):
        Path(name).write_bytes(noise)
    with start("nhc", "-c", "a", "b", "c", "d", "-m", model, stdin=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert len(process.stdout.read(10)) == 10
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == -signal.SIGPIPE, "tar forgives this and no exit code"


def test_closed_pipe_of_a_report(model):
    Path("raw").write_bytes(b"")
    assert run("chunker", "compress", "raw", "-m", model, "-q").returncode == 0
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed:
        done = run("chunker", "list", *["raw.nhc"] * 3, stdout=closed)
    assert done.returncode == -signal.SIGPIPE
    assert "closed it" in one_line(done.stderr)


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize(
    "args",
    [
        ["nhc", "-c", "noise"],
        ["nhc", "-d", "-c", "noise.nhc"],
        ["nhc", "-f", "-o", "/dev/full", "noise"],
        ["chunker", "list", "noise.nhc"],
        ["chunker", "compress", "small"],
        ["chunker", "--help"],
        ["chunker", "--version"],
        ["nhc", "--help"],
    ],
)
def test_full_disk(model, noise, args):
    Path("noise").write_bytes(noise)
    Path("small").write_bytes(b"small")
    assert run("nhc", "noise", "-m", model).returncode == 0
    options = ["-m", model] if args[1] not in ("list", "--help", "--version") else []
    with FULL.open("wb") as full:
        done = run(args[0], *args[1:], *options, stdout=full)
    assert done.returncode == 1
    assert one_line(done.stderr).startswith(f"{args[0]}: ")
    assert "No space left on device" in one_line(done.stderr)


def test_disk_that_fills_up_while_writing(model, noise):
    Path("noise").write_bytes(noise)
    limit = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (50000, 50000))"
    done = run("nhc", "--rm", "noise", "-m", model, before=limit)
    assert done.returncode == 1
    assert "File too large" in one_line(done.stderr)
    assert os.listdir() == ["noise"]


def test_no_right_to_read_or_write(model):
    """In this process, for the rights are given up after everything was imported; root may do all."""
    Path("secret").write_bytes(b"secret")
    os.mkdir("closed")
    Path("open").write_bytes(b"open")
    tries = ["-c", "secret"], ["-o", "closed/open.nhc", "open"]
    for args in tries:
        call(nhc, "-m", model, *args)
    os.unlink("closed/open.nhc")
    os.chmod("secret", 0)
    os.chmod("closed", 0o555)
    os.chmod("open", 0o644)
    os.chmod(".", 0o777)
    with nobody():
        results = [call(nhc, *args, code=1) for args in tries]
    remedy = "Permission denied; check the permissions of the file and of its folder"
    messages = [f"secret: {remedy}", f"open: closed/open.nhc: {remedy}"]
    assert [result.stderr for result in results] == [f"nhc: {message}\n" for message in messages]
    assert os.listdir("closed") == []


@contextlib.contextmanager
def nobody() -> Iterator[None]:
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.mark.parametrize("before", ["pass", HIDDEN])
@pytest.mark.parametrize("force", [False, True])
def test_two_at_once(model, force, before):
    flags = ["-f"] if force else []
    contents = [b"1" * MANY_BYTES, b"2" * MANY_BYTES]
    both = [start("nhc", *flags, "-o", "out.nhc", "-m", model, before=before) for _ in contents]
    for process, content in zip(both, contents, strict=True):
        assert process.stdin is not None
        process.stdin.write(content)
        process.stdin.flush()
    if before == HIDDEN:
        assert len(os.listdir()) == 2, "both are at work"
    codes = []
    for process in both:
        process.communicate(timeout=60)
        codes.append(process.returncode)
    assert codes == ([0, 0] if force else [0, 2])
    assert os.listdir() == ["out.nhc"]
    assert run("nhc", "-dc", "out.nhc", "-m", model).stdout == contents[-1 if force else 0]


def test_output_onto_its_own_input(model):
    Path("a").write_bytes(TEXT)
    with open("a", "ab") as end:
        done = run("nhc", "-c", "a", "-m", model, stdout=end)
    assert done.returncode == 1
    assert "same file" in one_line(done.stderr)
    assert Path("a").read_bytes() == TEXT


@pytest.mark.parametrize(
    "args",
    [
        ["nhc", "-c", "a"],
        ["nhc", "-l", "a.nhc"],
        ["nhc", "-dc", "a.nhc"],
        ["nhc", "--help"],
        ["chunker", "list", "a.nhc", "--json"],
        ["chunker", "compress", "a", "-f"],
        ["chunker", "--version"],
    ],
)
def test_a_closed_output_fails(model, args):
    """As `>&-` leaves it."""
    Path("a").write_bytes(TEXT)
    assert run("nhc", "a", "--fast").returncode == 0
    done = in_shell(*args, redirection=">&-")
    assert done.returncode == 1
    assert one_line(done.stderr).startswith(f"{args[0]}: ")
    assert b"Bad file descriptor" in done.stderr


def in_shell(*args: str, redirection: str) -> subprocess.CompletedProcess[bytes]:
    words = shlex.join(command(*args))
    return subprocess.run(
        ["sh", "-c", f"{words} {redirection}"],
        env=environment(),
        capture_output=True,
        check=False,
        timeout=60,
    )


def test_closed_streams_that_nobody_needs():
    """Nor does another file get their numbers."""
    Path("a").write_bytes(TEXT)
    for redirection in ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"):
        assert in_shell("nhc", "--fast", "-f", "a", redirection=redirection).returncode == 0
        assert run("nhc", "-dc", "a.nhc").stdout == TEXT
    assert in_shell("nhc", "--fast", "a", "nothing", redirection="2>&-").returncode == 1
    done = in_shell("nhc", redirection="<&-")
    assert done.returncode == 1
    assert b"Bad file descriptor" in done.stderr


@pytest.mark.parametrize("args", [["chunker", "compress"], ["nhc", "-v"]])
@pytest.mark.parametrize("way", ["closed pipe", "full disk"])
def test_files_are_done_though_nobody_reads_the_lines(args, way):
    for name in "abc":
        Path(name).write_bytes(TEXT)
    if way == "full disk" and not FULL.exists():
        pytest.skip("needs /dev/full")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb") as closed, open(FULL if way == "full disk" else os.devnull, "wb") as full:
        lines = closed if way == "closed pipe" else full
        streams: dict[str, Any] = {"stdout": lines} if args[0] == "chunker" else {"stderr": lines}
        done = run(*args, "--fast", *"abc", **streams)
    assert done.returncode == (-signal.SIGPIPE if way == "closed pipe" else 1)
    assert sorted(os.listdir()) == ["a", "a.nhc", "b", "b.nhc", "c", "c.nhc"]
    if args[0] == "chunker":
        one_line(done.stderr)


def test_terminals(model, noise):
    Path("noise").write_bytes(noise)
    master, terminal = os.openpty()
    try:
        for args in (["-c", "noise"], ["-o", os.ttyname(terminal), "noise"], []):
            done = run("nhc", *args, "-m", model, stdin=terminal, stdout=terminal)
            assert done.returncode == 1
            assert "not written to a terminal" in one_line(done.stderr)
        done = run("nhc", "-d", "-m", model, stdin=terminal)
        assert done.returncode == 1
        assert "not read from a terminal" in one_line(done.stderr)
        assert run("chunker", "compress", "noise", "-m", model, "-q", stderr=terminal).returncode == 0
        assert run("chunker", "compress", "noise", "-m", model, "-f", stderr=terminal).returncode == 0
        assert b"noise" in os.read(master, 1 << 16), "a progress bar names its file"
    finally:
        os.close(terminal)
        os.close(master)


def test_names_that_no_terminal_can_show(model):
    name = os.fsdecode(b"caf\xe9 \xe2\x82\xac")  # one name in two encodings
    Path(name).write_bytes(b"x")
    latin = "import sys; sys.stdout.reconfigure(encoding='latin-1')"
    done = run("chunker", "compress", name, "-m", model, before=latin)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(b"caf\\udce9 \\u20ac: 1 -> ")


@pytest.mark.parametrize("action", [["fit", "labelled.tsv", "-o", "m"], ["predict", "m", "a"]])
@pytest.mark.parametrize("missing", ["torch", "sklearn"])
def test_what_is_not_installed_is_one_line(action, missing):
    Path("labelled.tsv").write_text("x\tab\ny\tcd\n")
    hide = "import importlib.util as u, sys; found = u.find_spec; "
    hide += f"u.find_spec = lambda name, *rest: None if name == {missing!r} else found(name, *rest); "
    hide += f"sys.modules[{missing!r}] = None"
    done = run("chunker", "classify", *action, before=hide)
    assert done.returncode == 1
    assert "pip install" in one_line(done.stderr)


def test_the_package_can_be_looked_at_without_torch():
    code = "import importlib.util as u; found = u.find_spec; "
    code += "u.find_spec = lambda name, *rest: None if name == 'torch' else found(name, *rest); "
    code += "import chunker, inspect; from chunker import *; inspect.getmembers(chunker); "
    code += "raise SystemExit(int(hasattr(chunker, 'Stack')))"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
