"""The build backend: which compiler it takes, what it says without one,
and the wheel that it makes of two parts."""

from __future__ import annotations

import base64
import hashlib
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from cli_support import ROOT, one_line

pytest.importorskip("setuptools", minversion="77")
sys.path.insert(0, str(ROOT / ".build"))
import backend
import library


def script(folder: Path, name: str, lines: str) -> None:
    """A program of the shell."""
    path = folder / name
    path.write_text(f"#!/bin/sh\n{lines}\n", encoding="utf-8")
    path.chmod(0o755)


def build(path: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    """Compile as the backend does, by a Python that sees no installed package, so no ziglang either."""
    environment = {name: value for name, value in os.environ.items() if name != "CC"}
    return subprocess.run(
        [sys.executable, "-S", str(ROOT / ".build" / "library.py")],
        env={**environment, "PATH": path, **more},
        capture_output=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def unchanged():
    """Nothing may have been left in the checkout, nor taken away."""
    before = sorted((path.name, path.stat().st_mtime_ns) for path in library.CORE.iterdir() if path.is_file())
    yield
    assert before == sorted(
        (path.name, path.stat().st_mtime_ns) for path in library.CORE.iterdir() if path.is_file()
    )


@pytest.mark.usefixtures("unchanged")
@pytest.mark.skipif(os.name != "posix", reason="scripts of the shell stand in for compilers")
def test_compilers_that_fail_are_told_in_one_line_with_the_remedy(tmp_path):
    script(tmp_path, "cc", "echo note >&2; echo 'cc: error: no limits.h' >&2; exit 1")
    script(tmp_path, "gcc", "exit 0")  # it says that all is well, and makes nothing
    for more in ({}, {"CC": "no-such-compiler -m64"}):
        done = build(str(tmp_path), **more)
        assert done.returncode == 1
        assert "CHUNKER_BUILD=none" in one_line(done.stderr)
    (tmp_path / "gcc").unlink()
    assert b"cc: error: no limits.h" in build(str(tmp_path)).stderr


@pytest.mark.usefixtures("unchanged")
def test_no_compiler_is_told_in_one_line_with_the_remedy(tmp_path):
    done = build(str(tmp_path))
    assert done.returncode == 1
    line = one_line(done.stderr)
    assert "no compiler was found" in line
    assert "CHUNKER_BUILD=none" in line


def test_without_compiler_zig_is_asked_for(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CC", raising=False)
    assert library.needs_zig()


def test_the_variable_decides_whether_there_is_a_library(monkeypatch):
    monkeypatch.delenv("CHUNKER_BUILD", raising=False)
    assert backend.wants_library()
    monkeypatch.setenv("CHUNKER_BUILD", "none")
    assert not backend.wants_library()
    monkeypatch.setenv("CHUNKER_BUILD", "fast")
    with pytest.raises(SystemExit, match="CHUNKER_BUILD=fast is unknown"):
        backend.wants_library()


def test_a_wheel_and_a_library_become_a_wheel_of_a_platform(tmp_path):
    pure = tmp_path / "thing-1.0-py3-none-any.whl"
    parts = {
        "chunker/__init__.py": b"",
        "thing-1.0.dist-info/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        "thing-1.0.dist-info/RECORD": b"chunker/__init__.py,,\n",
    }
    with zipfile.ZipFile(pure, "w") as wheel:
        for name, content in parts.items():
            wheel.writestr(name, content)
    built = tmp_path / "libchunker.so"
    built.write_bytes(b"machine code")
    made = backend.add_library(pure, built, "linux_x86_64", tmp_path)
    assert made.name == "thing-1.0-py3-none-linux_x86_64.whl"
    with zipfile.ZipFile(made) as wheel:
        contents = {name: wheel.read(name) for name in wheel.namelist()}
        assert wheel.getinfo("chunker/core/libchunker.so").external_attr >> 16 & 0o777 == 0o755
    assert set(contents) == {*parts, "chunker/core/libchunker.so"}
    assert contents["chunker/core/libchunker.so"] == b"machine code"
    told = contents["thing-1.0.dist-info/WHEEL"].decode()
    assert "Root-Is-Purelib: false\nTag: py3-none-linux_x86_64\n" in told
    record = contents.pop("thing-1.0.dist-info/RECORD").decode().splitlines()
    assert record.pop() == "thing-1.0.dist-info/RECORD,,"
    recorded = dict(line.split(",", 1) for line in record)
    for name, content in contents.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).decode().rstrip("=")
        assert recorded[name] == f"sha256={digest},{len(content)}"
    assert len(recorded) == len(contents)
