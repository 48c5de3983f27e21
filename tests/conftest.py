"""What all tests share."""

from __future__ import annotations

import os

# Before numpy is imported, and as the commands do: BLAS's threads and ours are in each other's way.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
if "PYTEST_XDIST_WORKER" in os.environ:  # one of several, which share the cores: torch, too, uses one thread
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from small_blocks import cut_small
from stand_in import StandIn, use

from chunker.codec import presets
from chunker.models import Model, load_model

# Started in the background, a shell's jobs ignore these, and so would the commands that are to be
# interrupted.
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
def one_thread() -> Iterator[None]:
    """Torch uses one thread."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of 1000 bytes, so that short inputs have many."""
    cut_small(monkeypatch)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch) -> StandIn:
    """The codec runs on a core that deflates."""
    return use(monkeypatch, StandIn())


@pytest.fixture(params=presets.PRESETS)
def preset(request: pytest.FixtureRequest) -> str:
    """Each preset's name in turn."""
    return str(request.param)


def block_threads() -> list[threading.Thread]:
    """The threads in which blocks are coded. One without number was interrupted as it began,
    and finds no work."""
    return [thread for thread in threading.enumerate() if thread.name == "chunker" and thread.ident]


def join_all() -> None:
    """Wait for those threads; they end once nothing is left to do."""
    for thread in block_threads():
        thread.join(timeout=60)
    assert not block_threads()
