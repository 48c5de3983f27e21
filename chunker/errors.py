"""Every exception that chunker raises on purpose.

ChunkerError                        the message is one line and names the remedy
├── UsageError (ValueError)         an argument that cannot be used
├── MissingExtra (ImportError)      an optional dependency is not installed
├── CorpusError                     training or evaluation text that cannot be used
├── CheckpointError                 a training checkpoint that cannot be resumed
├── TrainingError                   training cannot go on: the loss is no longer finite
├── ExactnessError                  what is installed does not compute what every other copy does
├── ExecutorError                   what codes blocks elsewhere failed, or is of another version
├── VerifyError                     an archive that was just written does not decode to what was read
├── ModelError
│   ├── ModelNotFound               no file and no built-in model of that name
│   ├── NotAModel                   not a model file, cut, or inconsistent
│   └── ModelVersionError           written by a newer version of chunker
└── ArchiveError
    ├── NotAnArchive                does not begin with the magic bytes
    ├── TruncatedArchive (EOFError) ends before it is complete
    ├── CorruptArchive              a checksum or a field is wrong
    ├── ArchiveVersionError         written by a newer version of chunker, or by one before the first release
    └── WrongModel                  was compressed with another model
"""

from __future__ import annotations


class ChunkerError(Exception):
    """Base of all errors that a user can cause; `str(error)` is one line."""


class UsageError(ChunkerError, ValueError):
    """An argument that cannot be used."""


class MissingExtra(ChunkerError, ImportError):
    """An optional dependency is not installed; the message names the extra."""


class CorpusError(ChunkerError):
    """Training or evaluation text that cannot be used."""


class CheckpointError(ChunkerError):
    """A training checkpoint that cannot be resumed."""


class TrainingError(ChunkerError):
    """Training cannot go on, for example because the loss is no longer finite."""


class ExactnessError(ChunkerError):
    """What is installed does not compute what every other copy does, so no file would open elsewhere."""


class ExecutorError(ChunkerError):
    """What codes blocks elsewhere failed, such as a cluster, or has another version or model."""


class VerifyError(ChunkerError):
    """An archive that was just written does not decode to what was read."""


class ModelError(ChunkerError):
    """Base of everything that can be wrong with a model file."""


class ModelNotFound(ModelError):
    """Neither a file nor a built-in model of that name."""


class NotAModel(ModelError):
    """The file is not a model, is cut, or its parts do not fit together."""


class ModelVersionError(ModelError):
    """The model was written by a newer version of chunker."""


class ArchiveError(ChunkerError):
    """Base of everything that can be wrong with an archive."""


class NotAnArchive(ArchiveError):
    """The input does not begin with the magic bytes of an archive."""


class TruncatedArchive(ArchiveError, EOFError):
    """The archive ends before it is complete."""


class CorruptArchive(ArchiveError):
    """A checksum or a field of the archive is wrong."""


class ArchiveVersionError(ArchiveError):
    """The archive was written by a newer version of chunker, or by one before the first release."""


class WrongModel(ArchiveError):
    """The archive was compressed with a model other than the one at hand."""
