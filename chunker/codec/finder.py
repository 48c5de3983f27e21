"""Which model: what a caller gave, or the one whose fingerprint an archive names."""

from __future__ import annotations

import functools
import os
from typing import TYPE_CHECKING

from chunker.codec.archive import Block
from chunker.errors import WrongModel

if TYPE_CHECKING:
    from chunker.models import Model

    # A model, its name or file, or None for the built-in one (compressing) or the archive's (decompressing).
    ModelLike = Model | str | os.PathLike[str] | None


@functools.lru_cache(maxsize=4)
def builtin(name: str | None = None) -> Model:
    """A built-in model, None for the default one; loaded once, for small records must not pay for it again."""
    from chunker.models import BUILTIN, load_model

    return load_model(
        None if name is None else BUILTIN / f"{name}.safetensors"
    )  # a file may have its name, too


def as_model(model: ModelLike) -> Model:
    """The model itself. Raises ModelNotFound, NotAModel, ModelVersionError."""
    if model is None:
        return builtin()
    if isinstance(model, (str, os.PathLike)):
        from chunker.models import load_model

        return load_model(model)
    to_model = getattr(model, "to_model", None)  # of a Stack, which only those with torch can name
    return model if to_model is None else to_model()


class ModelFinder:
    """Finds the model that a block wants: the given one or a built-in one, whichever has the fingerprint.

    found: names of those that were found, in order.
    """

    def __init__(self, model: ModelLike = None) -> None:
        self._given = None if model is None else as_model(model)
        self.found: list[str] = []

    def find(self, block: Block) -> Model | None:
        """None if the block needs no model. Raises WrongModel."""
        if not block.head.kind.needs_model:
            return None
        model = self._find(block.fingerprint)
        if model.name not in self.found:
            self.found.append(model.name)
        return model

    def _find(self, wanted: bytes) -> Model:
        if self._given is not None and self._given.fingerprint.startswith(wanted):
            return self._given
        from chunker.models import builtin_models

        for name in builtin_models():
            if builtin(name).fingerprint.startswith(wanted):
                return builtin(name)
        tried = "the model given" if self._given is not None else "a built-in model"
        raise WrongModel(
            f"the archive was made with model {wanted.hex()}, not with {tried}: name that model's file "
            "(-m MODEL), unless the archive is damaged there"
        )
