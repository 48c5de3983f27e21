"""Optional dependencies: whether they are installed, and what to say if not. Nothing here imports them."""

from __future__ import annotations

from importlib.util import find_spec

from chunker.errors import MissingExtra

# Extra of pyproject.toml -> the modules that it brings.
EXTRAS = {
    "aeon": ("torch", "sklearn", "aeon"),
    "cluster": ("distributed",),
    "plot": ("matplotlib",),
    "rl": ("torch", "gymnasium"),
    "sklearn": ("torch", "sklearn"),
    "tensorboard": ("torch", "tensorboard"),
    "train": ("torch",),
    "url": ("fsspec",),
    "zarr": ("numcodecs", "zarr"),
}


def has(extra: str) -> bool:
    """Whether everything that an extra brings is installed."""
    return all(find_spec(module) is not None for module in EXTRAS[extra])


def require(extra: str, task: str) -> None:
    """Say in one line what to install if an extra is missing. task: what needs it, like "drawing".

    Raises
    ------
    MissingExtra: it is not installed.
    """
    if not has(extra):
        needed = " and ".join(EXTRAS[extra])
        raise MissingExtra(f'{task} needs {needed}: pip install ".[{extra}]" in the folder of chunker')
