"""What all tests share."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from chunker.coding import blocks
from chunker.modelfile import Model, load_model

# Started in the background, a shell's jobs ignore these, and so would the commands that are to be interrupted.
for _name in ("SIGINT", "SIGHUP", "SIGQUIT"):
    _number = getattr(signal, _name, None)
    if _number is not None and signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, signal.default_int_handler if _name == "SIGINT" else signal.SIG_DFL)

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def tiny_model() -> Model:
    """Two GRU levels of 24 and 32, trained for half a minute on the standard library's docstrings."""
    return load_model(GOLDEN / "tiny.safetensors")


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 1000 bytes and lanes of 200, so that short inputs have many."""
    monkeypatch.setattr(blocks, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(blocks, "SMALL_BYTES", 300)
    monkeypatch.setattr(blocks, "LANE_BYTES", 200)
