"""Which model: what a caller gave, or the one whose fingerprint an archive names."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from chunker.codec import presets
from chunker.codec.archive import Block
from chunker.codec.presets import Preset
from chunker.errors import ExecutorError, ModelError, WrongModel

if TYPE_CHECKING:
    from chunker.models import AnyModel, Model

    # None for the preset's built-in model (compressing) or the archive's (decompressing).
    ModelLike = AnyModel | None


@functools.lru_cache(maxsize=4)
def builtin(name: str | None = None) -> Model:
    """A built-in model, None for the default one; loaded once, for small records must not pay for it
    again."""
    from chunker.models import load_model

    return load_model(name)


def builtin_name(fingerprint: bytes) -> str | None:
    """The name of the built-in model whose fingerprint begins like this; None if there is none."""
    from chunker.models import builtin_fingerprint, builtin_models

    return next(
        (name for name in builtin_models() if builtin_fingerprint(name).startswith(fingerprint)), None
    )


def as_model(model: ModelLike, preset: Preset = presets.DEFAULT_PRESET) -> Model:
    """The model itself; for None the built-in one of the preset.

    Raises
    ------
    ModelNotFound, NotAModel, ModelVersionError. UsageError: it is nothing of the kind.
    """
    if model is None:
        return builtin(presets.model_name(preset))
    from chunker.models import loaded

    return loaded(model)


def model_for(model: ModelLike, preset: Preset) -> Model | None:
    """The model that compressing takes; None: contexts alone. One that is given is loaded all the same: a
    wrong name is an error, whatever the preset.

    Raises
    ------
    What `as_model` raises. UsageError: there is no such preset.
    """
    needed = presets.settings_of(preset).needs_model
    found = as_model(model, preset) if needed or model is not None else None
    return found if needed else None


class Sent:
    """A model as blocks take it along to where they are coded. A copy in another process is the model that
    is built in there, or lies in the same file, with the same fingerprint, loaded once. One that lies in no
    file goes along whole.
    """

    def __init__(self, model: Model) -> None:
        self.model = model

    def __reduce__(self) -> tuple[Any, ...]:
        model, key = self.model, self.model.fingerprint
        name = builtin_name(key)
        if name is not None:
            return _received, (key, name, None)
        if model.path.is_file():
            return _received, (key, str(model.path.resolve()), None)
        return _received, (key, None, (model.name, model.path, model.config, {}, model.raw_tensors))


_here: dict[bytes, Sent] = {}  # those that came from other processes


def _received(key: bytes, name: str | None, parts: tuple[Any, ...] | None) -> Sent:
    """The model of that fingerprint: of that name or path, or put together. Raises ExecutorError."""
    if key not in _here:
        from chunker.models import Model, load_model

        try:
            model = load_model(name) if parts is None else Model(*parts)
        except (ModelError, OSError) as error:
            raise ExecutorError(f"a worker cannot load the model: {error}") from error
        if model.fingerprint != key:
            raise ExecutorError(
                f"a worker has another model {name}, {model.fingerprint.hex()[:16]} in place of "
                f"{key.hex()[:16]}: install the same everywhere"
            )
        _here[key] = Sent(model)
    return _here[key]


def model_of(sent: Sent | None) -> Model | None:
    """The model where it is coded with; None: none is needed."""
    return None if sent is None else sent.model


class ModelFinder:
    """Finds the model that a block wants: the given one or a built-in one, whichever has the fingerprint.

    found: names of those that were found, in order. given: the one that a caller gave.
    """

    def __init__(self, model: ModelLike = None) -> None:
        self._given = None if model is None else as_model(model)
        self.given = None if self._given is None else Sent(self._given)
        self.found: list[str] = []

    def find(self, block: Block) -> Model | None:
        """None if the block needs no model. Raises WrongModel."""
        if not block.head.kind.needs_model:
            return None
        model = self._find(block.fingerprint)
        if model.name not in self.found:
            self.found.append(model.name)
        return model

    def fingerprints(self) -> list[bytes]:
        """Of all that can be found: the given one, and those built in."""
        from chunker.models import builtin_fingerprint, builtin_models

        given = [] if self._given is None else [self._given.fingerprint]
        return given + [builtin_fingerprint(name) for name in builtin_models()]

    def send(self, block: Block) -> Sent | None:
        """As `find`, to be taken along."""
        model = self.find(block)
        return None if model is None else Sent(model)

    def _find(self, wanted: bytes) -> Model:
        if self._given is not None and self._given.fingerprint.startswith(wanted):
            return self._given
        name = builtin_name(wanted)
        if name is not None:
            return builtin(name)
        tried = "the model given" if self._given is not None else "a built-in model"
        raise WrongModel(
            f"the archive was made with model {wanted.hex()}, not with {tried}: name that model's file "
            "(-m MODEL), unless the archive is damaged there"
        )
