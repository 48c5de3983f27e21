"""The series of tests/endurance with small counts; tests/README.md has their long runs."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
from cli_support import ROOT, environment

posix = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def series(script: str, *arguments: str) -> str:
    """What a series prints. Fails if it found a fault."""
    line = [sys.executable, str(ROOT / "tests" / "endurance" / script), *arguments]
    done = subprocess.run(
        line, env=environment(OMP_NUM_THREADS="1"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_flipped_bit():
    assert "refused" in series("damage.py", "bits")


def test_harmed_files():
    assert "900 in all, no fault" in series("damage.py", "edits", "900", "1")


@pytest.mark.slow
def test_many_harmed_files():
    assert "20,000 in all, no fault" in series("damage.py", "edits", "20000", "2")


@pytest.mark.slow
def test_inputs_that_are_made_up_by_coverage():
    pytest.importorskip("atheris")
    assert "no fault" in series("damage.py", "fuzz", "20000")


@posix
@pytest.mark.slow
def test_killed_at_any_moment():
    assert "no promise broken" in series("faults.py", "kill", "36")


@posix
@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="lets calls of glibc fail")
def test_a_disk_that_is_full_at_any_call():
    assert "no promise broken" in series("faults.py", "calls", "30")


@pytest.mark.slow
def test_large():
    assert "right" in series("large.py", "80")
