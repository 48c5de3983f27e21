"""chunker: a neural history compressor.

Contexts that learn the file at hand, and above them a stack of recurrent predictors that wakes where they are
unsure, in which each level gets only the inputs that the level below did not predict (Schmidhuber 1992).
Compress with the built-in model, or train stacks of your own (extra `[train]`).

    >>> import chunker
    >>> archive = chunker.compress(b"to be or not to be")
    >>> chunker.decompress(archive)
    b'to be or not to be'

Importing the package is cheap: the codec comes with the first call, numpy with histories, torch with
`chunker.learning`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from chunker import forking as _forking  # noqa: F401 - it is there before a thread imports the codec
from chunker.errors import ChunkerError, MissingExtra
from chunker.extras import has as _has
from chunker.extras import require as _require
from chunker.version import __version__ as __version__

if TYPE_CHECKING:
    from chunker.classification import HistoryClassifier, HistoryTranscriber, HistoryTransformer
    from chunker.codec.files import open
    from chunker.codec.info import frame_info
    from chunker.codec.stream import Compressor, Decompressor, compress, decompress
    from chunker.config import GateRule, StackConfig
    from chunker.learning.stack import Stack
    from chunker.models import Model, builtin_models, load_model
    from chunker.records.codec import RecordCodec

_HOMES = {
    "Compressor": "chunker.codec.stream",
    "Decompressor": "chunker.codec.stream",
    "GateRule": "chunker.config",
    "HistoryClassifier": "chunker.classification",
    "HistoryTranscriber": "chunker.classification",
    "HistoryTransformer": "chunker.classification",
    "Model": "chunker.models",
    "RecordCodec": "chunker.records.codec",
    "Stack": "chunker.learning.stack",
    "StackConfig": "chunker.config",
    "builtin_models": "chunker.models",
    "compress": "chunker.codec.stream",
    "decompress": "chunker.codec.stream",
    "frame_info": "chunker.codec.info",
    "load_model": "chunker.models",
    "open": "chunker.codec.files",
}

__all__ = [
    "ChunkerError",
    "Compressor",
    "Decompressor",
    "GateRule",
    "HistoryClassifier",
    "HistoryTranscriber",
    "HistoryTransformer",
    "Model",
    "RecordCodec",
    "Stack",
    "StackConfig",
    "builtin_models",
    "compress",
    "decompress",
    "frame_info",
    "load_model",
    "open",
]

# What needs an extra is left out of __all__ where it is missing,
# so that help() and `import *` work without it.
_EXTRA_OF = {
    "HistoryClassifier": "sklearn",
    "HistoryTranscriber": "sklearn",
    "HistoryTransformer": "sklearn",
    "Stack": "train",
}
for _name, _extra in _EXTRA_OF.items():
    if not _has(_extra):
        __all__.remove(_name)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'chunker' has no attribute {name!r}")
    if name in _EXTRA_OF:
        try:
            _require(_EXTRA_OF[name], f"chunker.{name}")
        except MissingExtra as error:
            raise AttributeError(str(error)) from error
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
