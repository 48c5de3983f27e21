"""What all tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from chunker.modelfile import Model, load_model

GOLDEN = Path(__file__).parent / "golden"


@pytest.fixture(scope="session")
def tiny_model() -> Model:
    """Two GRU levels of 24 and 32, trained for half a minute on the standard library's docstrings."""
    return load_model(GOLDEN / "tiny.safetensors")
