"""Runs the two commands, in this process or as processes of their own, as a shell would."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner, Result

import chunker.errors

ROOT = Path(chunker.errors.__file__).parents[1]
TEXT = b"All work and no play makes Jack a dull boy.\n" * 5


def command(program: str, *args: str | Path, before: str = "pass") -> list[str]:
    """The command line of `chunker` or `nhc`; `before` is Python code that runs first."""
    code = f"{before}; from chunker.cli.entry import {program}; {program}()"
    return [sys.executable, "-c", code, *map(str, args)]


def environment(**more: str) -> dict[str, str]:
    """Finds this chunker from any folder; a warning is an error; nothing depends on the terminal."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path, "PYTHONWARNINGS": "error", "OPENBLAS_NUM_THREADS": "1", **more}


def run(
    program: str, *args: str | Path, before: str = "pass", **options: Any
) -> subprocess.CompletedProcess[bytes]:
    """Run to the end; standard output and error are kept unless they are redirected."""
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": environment(), **options}
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run(command(program, *args, before=before), timeout=600, check=False, **options)


def start(program: str, *args: str | Path, before: str = "pass", **options: Any) -> subprocess.Popen[bytes]:
    """Start a process with pipes for all three streams."""
    pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
    options = {**pipes, "env": environment(), **options}
    return subprocess.Popen(command(program, *args, before=before), **options)


def one_line(text: bytes) -> str:
    """The only line of a message. Fails if there are more, or none."""
    lines = text.decode().splitlines()
    if len(lines) != 1:
        raise AssertionError(f"not one line but {len(lines)}: {text!r}")
    return lines[0]


def invoke(command: click.Command, *args: str, stdin: bytes | None = None) -> Result:
    """Run a command in this process, however it ends."""
    # Before click 8.2 a runner joins both streams unless told otherwise, and since then it cannot.
    separate: dict[str, Any] = (
        {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
    )
    return CliRunner(**separate).invoke(command, args, input=stdin, prog_name=command.name)


def call(command: click.Command, *args: str, code: int = 0, stdin: bytes | None = None) -> Result:
    """Run a command in this process. Fails unless it exits with that code, and not by another exception."""
    result = invoke(command, *args, stdin=stdin)
    if result.exit_code != code or not isinstance(result.exception, (SystemExit, type(None))):
        raise AssertionError(
            f"code {result.exit_code}, {result.exception!r}: {result.stderr}"
        ) from result.exception
    return result
