"""Models of records: a sample of a domain and how it is used; read from a file and written to one.

    sample --read once--> state of level 0 and the nets --each record starts from it--> payload

Nothing is trained into numbers: the contexts learn the domain by reading the sample when the model is first
used. README.md says what that costs, FORMAT.md what lies in the file.
"""

from __future__ import annotations

import contextlib
import functools
import lzma
import mmap
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chunker.core import backend as core
from chunker.core.backend import GATE_ALWAYS, Contexts, Progress, Session, Settings, Stop
from chunker.core.layout import RawTensor
from chunker.errors import ModelError, NotAModel, UsageError, WrongModel
from chunker.models import Model, modelfile
from chunker.records import states
from chunker.records.deflate import Deflate
from chunker.records.splitting import LINES, Rule, rule_of

ID_BYTES = 4
MAX_SAMPLE_BYTES = 1 << 20
ROOM = 1 << 16  # bytes of the longest record, its terminator included, that the contexts code
MAX_TERMINATOR_BYTES = 16
_FILTERS = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME, "dict_size": MAX_SAMPLE_BYTES}]
METHODS = ("contexts", "deflate")


@dataclass(frozen=True)
class RecordConfig:
    """How records are coded.

    Attributes
    ----------
    method: "contexts", or "deflate" with the sample's end as preset dictionary, where contexts do not pay.
    contexts: which set of contexts, of method "contexts".
    gate: in 1/256 nat, when the recurrent levels wake; 0: never.
    stack: fingerprint of the model that has these levels, in hexadecimal; "" for none.
    terminator: what follows each record of the sample, and each record that is coded. Its last byte ends a
        record; one that has this byte in it is coded with its length instead.
    rule: how files are cut into records.
    """

    method: str = "contexts"
    contexts: Contexts = Contexts.MANY
    gate: int = 0
    stack: str = ""
    terminator: bytes = b"\n"
    rule: Rule = field(default=LINES)

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise UsageError(f"method {self.method!r} is not known; choose one of {', '.join(METHODS)}")
        if not 0 <= self.gate <= GATE_ALWAYS or bool(self.gate) != bool(self.stack):
            raise UsageError(f"a gate of {self.gate} does not go with the stack {self.stack!r}")
        if not 1 <= len(self.terminator) <= MAX_TERMINATOR_BYTES:
            raise UsageError(f"a terminator has 1 to {MAX_TERMINATOR_BYTES} bytes")

    @property
    def end(self) -> int:
        """The byte that ends a record."""
        return self.terminator[-1]

    def to_json(self) -> dict[str, Any]:
        """A dictionary that `from_json` reads back."""
        return {
            "contexts": int(self.contexts),
            "gate": self.gate,
            "method": self.method,
            "records": self.rule.name,
            "stack": self.stack,
            "terminator": self.terminator.hex(),
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> RecordConfig:
        """The inverse of `to_json`. Raises UsageError."""
        try:
            config = cls(
                method=fields["method"],
                contexts=Contexts(fields["contexts"]),
                gate=int(fields["gate"]),
                stack=str(fields["stack"]),
                terminator=bytes.fromhex(fields["terminator"]),
                rule=rule_of(fields["records"]),
            )
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise UsageError(f"the configuration cannot be read: {error}") from error
        if config.to_json() != fields:
            raise UsageError("the configuration has fields that are not known")
        return config


class RecordModel:
    """A model of records at hand; threads may share it.

    sample: records of the domain, each followed by the terminator. name: the file's stem. path: None before
    it is saved. summary: what training wrote down (free JSON). fingerprint: 32 bytes over everything that
    decides a coded byte. id: its first 4 bytes, for whoever keeps many models.
    net: the model that has the recurrent levels, if it is at hand. Otherwise the built-in one of that
    fingerprint is taken, or else the file that `summary` names as "net", beside this one or in the current
    folder.
    """

    def __init__(
        self,
        config: RecordConfig,
        sample: bytes,
        summary: dict[str, Any] | None = None,
        *,
        name: str = "records",
        path: Path | None = None,
        net: Model | None = None,
    ) -> None:
        if len(sample) > MAX_SAMPLE_BYTES:
            raise UsageError(f"a sample of {len(sample):,} bytes is too long: at most {MAX_SAMPLE_BYTES:,}")
        self.config, self.sample, self.summary = config, sample, summary or {}
        self.name, self.path, self._net = name, path, net
        if net is not None:
            self.summary["net"] = net.path.name
        self.fingerprint = modelfile.digest(config.to_json(), {"sample": _tensor(sample)})
        self._start: Session | None = None
        self._starting = threading.Lock()
        self._spare: list[Session] = []

    def __repr__(self) -> str:
        return f"<RecordModel {self.name!r}, id {self.id.hex()}, {len(self.sample):,} bytes of sample>"

    @property
    def id(self) -> bytes:
        """The first 4 bytes of the fingerprint."""
        return self.fingerprint[:ID_BYTES]

    @functools.cached_property
    def deflate(self) -> Deflate:
        """Deflate with the end of the sample as its dictionary."""
        return Deflate(self.sample)

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A session that has read the sample, for this thread alone as long as the block lasts.

        The first one reads the sample, or finds the state that a large one leaves in a file (states.py). One
        thread at a time needs no other; each more gets a copy.

        Raises
        ------
        MemoryError: there is no room for the tables. WrongModel: the model of the net is not found.
        """
        if self._starting.acquire(blocking=False):
            try:
                yield self._started()
            finally:
                self._starting.release()
            return
        try:
            session = self._spare.pop()
        except IndexError:
            with self._starting:
                session = self._started().copy()
        try:
            yield session
        finally:
            self._spare.append(session)

    def _started(self) -> Session:
        if self._start is None:
            kept = self.path is not None and len(self.sample) >= states.LEAST_BYTES
            self._start = (
                states.started(self.fingerprint, self._read, self._restore) if kept else self._read()
            )
        return self._start

    @property
    def _settings(self) -> Settings:
        return Settings(self.config.contexts, self.config.gate)

    @property
    def _capacity(self) -> int:
        return len(self.sample) + ROOM

    def _read(self) -> Session:
        session = core.backend().session(self._settings, self._stack(), self._capacity, Stop(), Progress())
        session.read(self.sample)
        return session

    def _restore(self, state: mmap.mmap) -> Session | None:
        return core.backend().restore(
            self._settings, self._stack(), self._capacity, state, Stop(), Progress()
        )

    def _stack(self) -> Model | None:
        if self.config.stack and self._net is None:
            self._net = self._find_net(bytes.fromhex(self.config.stack))
        return self._net

    def _find_net(self, wanted: bytes) -> Model:
        from chunker.codec.finder import builtin, builtin_name
        from chunker.models import load_model

        builtin_one = builtin_name(wanted)
        if builtin_one is not None:
            return builtin(builtin_one)
        name = str(self.summary.get("net", ""))
        if name and os.path.basename(name) == name:
            for folder in dict.fromkeys((Path() if self.path is None else self.path.parent, Path())):
                with contextlib.suppress(ModelError, OSError):
                    found = load_model(folder / name)
                    if found.fingerprint == wanted:
                        return found
        raise WrongModel(
            f"the records need the net {self.config.stack[:16]} ({name or 'a built-in one'}), which is "
            "neither built in nor beside their model or here: put its file there, or train the model again"
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the file, whole or not at all. Raises OSError, UsageError."""
        target = Path(path)
        packed = lzma.compress(self.sample, lzma.FORMAT_RAW, filters=_FILTERS)
        summary = {**self.summary, "sample_bytes": len(self.sample)}
        config = self.config.to_json()
        modelfile.write(target, "records", config, {"sample": _tensor(packed)}, summary)
        self.name, self.path = target.stem, target.absolute()


def _tensor(data: bytes) -> RawTensor:
    return RawTensor("|u1", (len(data),), data)


def load_record_model(path: str | os.PathLike[str]) -> RecordModel:
    """The model in a file; the last few that were loaded are kept, as long as their files do not change.

    Raises
    ------
    ModelNotFound: there is none. NotAModel: cut, damaged, or of another kind. ModelVersionError: too new.
    """
    found = Path(path)
    modelfile.find(found, os.fspath(path))
    status = found.stat()
    return _load(found.absolute(), status.st_mtime_ns, status.st_size)


@functools.lru_cache(maxsize=16)
def _load(path: Path, mtime_ns: int, size: int) -> RecordModel:
    content = modelfile.read(path, "records")
    try:
        config = RecordConfig.from_json(content.config)
    except UsageError as error:
        raise modelfile.unreadable(path, error) from error
    content.check(path, modelfile.digest(content.config, content.tensors))
    if set(content.tensors) != {"sample"} or content.tensors["sample"].dtype != "|u1":
        raise NotAModel(f"{path}: the tensors do not fit a model of records; fetch or train it again")
    try:
        unpacker = lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=_FILTERS)
        sample = unpacker.decompress(content.tensors["sample"].data, MAX_SAMPLE_BYTES + 1)
        return RecordModel(config, sample, content.summary, name=path.stem, path=path)
    except (lzma.LZMAError, UsageError) as error:
        raise NotAModel(f"{path}: the sample cannot be read ({error}); fetch or train it again") from error
