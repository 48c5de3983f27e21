"""The compiled core: chunker/core/c, loaded with ctypes, so that one library serves every Python.

ctypes releases the interpreter's lock while the library works, so threads code blocks on all cores. The
library is built when the package is installed; without one `load` finds nothing and the reference in Python
takes over.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import sys
import threading
import weakref
from array import array
from collections.abc import Hashable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from chunker.core.interface import (
    BEST,
    MISFIT,
    PRIMED_BYTES,
    Model,
    Progress,
    Settings,
    Stop,
    Stopped,
    Trace,
    asleep_bytes,
    check_stack,
    primed_capacity,
)
from chunker.errors import CorruptArchive, ExactnessError, NotAModel

if TYPE_CHECKING:
    import mmap

    from chunker.config import StackConfig
    from chunker.core.layout import RawTensor

ABI = 8
TABLES_DIGEST = 0x2CE88AFFFE9CB473
NAMES = {"win32": "chunker.dll", "darwin": "libchunker.dylib"}
LIBRARY = Path(__file__).parent / NAMES.get(sys.platform, "libchunker.so")

_STOPPED, _NO_MEMORY, _TOO_LARGE, _CORRUPT = -1, -2, -3, -4
_CELLS = {"rnn": 0, "gru": 1, "lstm": 2}
_JOURNALED = 4096  # as in block.c: longer contents are coded by a copy of the session
_RULES = {"argmax": 0, "surprise": 1, "rate": 1, "word": 2}
_MATRICES = ("symbol_input", "time_input", "guess_input", "confidence_input", "below", "recurrent", "readout")
_BIASES = ("bias", "candidate_bias", "readout_bias")
_MAX_LEVELS, _MAX_ORDERS = 16, 8
MAX_BLOCK_BYTES = 1 << 22


class _Matrix(ctypes.Structure):
    _fields_ = (
        ("q", ctypes.c_char_p),
        ("multiplier", ctypes.c_char_p),
        ("rows", ctypes.c_int32),
        ("columns", ctypes.c_int32),
    )


class _Level(ctypes.Structure):
    _fields_ = (
        ("width", ctypes.c_int32),
        *((name, _Matrix) for name in _MATRICES),
        *((name, ctypes.c_char_p) for name in _BIASES),
    )


class _Stack(ctypes.Structure):
    _fields_ = (
        ("cell", ctypes.c_int32),
        ("levels", ctypes.c_int32),
        ("rule", ctypes.c_int32),
        ("thresholds", ctypes.c_int32 * _MAX_LEVELS),
        ("orders", ctypes.c_int32),
        ("order", ctypes.c_int32 * _MAX_ORDERS),
        ("word", ctypes.c_int32),
        ("ngram_rows", ctypes.c_int32),
        ("ngram_table", _Matrix),
        ("catch_up", ctypes.c_int32),
        ("level", _Level * _MAX_LEVELS),
    )


class _Job(ctypes.Structure):
    _fields_ = (
        ("tables", ctypes.c_void_p),
        ("model", ctypes.c_void_p),
        ("kernels", ctypes.c_int32),
        ("contexts", ctypes.c_int32),
        ("gate", ctypes.c_int32),
        ("without_contexts", ctypes.c_uint64),
        ("without_parts", ctypes.c_uint32),
        ("stop", ctypes.c_void_p),
        ("done", ctypes.c_void_p),
    )


class _Readings(ctypes.Structure):
    _fields_ = (
        *(
            (name, ctypes.c_void_p)
            for name in ("bits", "levels", "woke", "guess", "confidence", "probability")
        ),
        ("level_bits", ctypes.c_void_p),
        ("rank_from", ctypes.c_float),
        *((name, ctypes.c_void_p) for name in ("rank", "best", "best_bits", "best_levels")),
    )


def _declare(library: ctypes.CDLL) -> None:
    void_p, int32, int64 = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
    coding = (ctypes.POINTER(_Job), ctypes.c_char_p, int64, void_p, int64)
    going_on = (void_p, ctypes.c_char_p, int64, void_p, int64, int32, void_p, void_p)
    signatures: dict[str, tuple[Any, tuple[Any, ...]]] = {
        "chunker_abi": (int32, ()),
        "chunker_tables_new": (void_p, ()),
        "chunker_tables_digest": (ctypes.c_uint64, (void_p,)),
        "chunker_kernels": (ctypes.c_char_p, (void_p, int32)),
        "chunker_model_new": (void_p, (ctypes.POINTER(_Stack),)),
        "chunker_model_free": (None, (void_p,)),
        "chunker_encode_block": (int64, coding),
        "chunker_decode_block": (int64, coding),
        "chunker_session_new": (void_p, (ctypes.POINTER(_Job), int64)),
        "chunker_session_encode_block": (int64, going_on),
        "chunker_session_decode_block": (int64, going_on),
        "chunker_session_copy": (void_p, (void_p,)),
        "chunker_session_save": (int64, (void_p, void_p, int64)),
        "chunker_session_restore": (void_p, (ctypes.POINTER(_Job), int64, void_p, int64)),
        "chunker_session_free": (None, (void_p,)),
        "chunker_session_left": (int64, (void_p,)),
        "chunker_session_encode": (int64, (void_p, ctypes.c_char_p, int64, void_p, int64)),
        "chunker_session_decode": (int64, (void_p, ctypes.c_char_p, int64, void_p, int64, int32)),
        "chunker_session_read": (int64, (void_p, ctypes.c_char_p, int64, int64, ctypes.POINTER(_Readings))),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments


def load() -> list[NativeBackend]:
    """A backend for each instruction set that this processor has, the best first; [] without a library.

    Raises
    ------
    ExactnessError: the library is of another version, or its tables are not those of FORMAT.md.
    """
    return list(_load())


@functools.cache
def _load() -> tuple[NativeBackend, ...]:
    if not LIBRARY.is_file():
        return ()
    try:
        library = ctypes.CDLL(str(LIBRARY))
    except OSError:
        return ()  # built for another system, for example in a shared checkout
    library.chunker_abi.restype = ctypes.c_int32
    if library.chunker_abi() != ABI:
        raise ExactnessError(f"{LIBRARY} belongs to another version of chunker: install chunker again")
    _declare(library)
    tables = library.chunker_tables_new()
    if not tables:
        raise MemoryError
    if library.chunker_tables_digest(tables) != TABLES_DIGEST:
        raise ExactnessError(f"the tables of {LIBRARY} came out different: install chunker again")
    found: list[NativeBackend] = []
    while name := library.chunker_kernels(tables, len(found)):
        found.append(NativeBackend(library, tables, len(found), name.decode()))
    return tuple(found)


class NativeBackend:
    """The library with the kernels of one instruction set. See chunker.core.backend.Backend."""

    def __init__(self, library: ctypes.CDLL, tables: int, kernels: int, name: str) -> None:
        self.name = f"native {name}"
        self._library, self._tables, self._kernels = library, tables, kernels

    def encode(
        self,
        content: bytes,
        settings: Settings,
        model: Model | None,
        limit_bytes: int,
        stop: Stop,
        progress: Progress,
        known: bytes = b"",
    ) -> bytes | None:
        """See Backend.encode."""
        if limit_bytes < 1:
            return None
        capacity = limit_bytes - 1
        payload = ctypes.create_string_buffer(max(capacity, 1))
        coding = (content, len(content), payload, capacity)
        result = self._code("encode", coding, len(content), settings, model, stop, progress, known)
        if result == _TOO_LARGE:
            return None
        _check(result)
        return ctypes.string_at(payload, result)

    def session(
        self,
        settings: Settings,
        model: Model | None,
        capacity: int,
        stop: Stop,
        progress: Progress,
        *,
        without_contexts: int = 0,
        without_parts: int = 0,
    ) -> NativeSession:
        """See Backend.session.

        without_contexts, without_parts: bit sets of contexts (contexts.h) and parts of the mixture (level0.h)
        to leave out. For ablations only: archives always have all of them.
        """
        job = self._job(settings, model, stop, progress)
        job.without_contexts, job.without_parts = without_contexts, without_parts
        if not 0 <= capacity <= MAX_BLOCK_BYTES:
            raise ValueError(f"a session reads 0 to {MAX_BLOCK_BYTES:,} bytes")
        address = self._library.chunker_session_new(job, capacity)
        return NativeSession(self._library, address, _levels(settings, model), (model, stop, progress))

    def restore(
        self,
        settings: Settings,
        model: Model | None,
        capacity: int,
        state: mmap.mmap,
        stop: Stop,
        progress: Progress,
    ) -> NativeSession | None:
        """See Backend.restore."""
        job = self._job(settings, model, stop, progress)
        buffer = (ctypes.c_char * len(state)).from_buffer(state)
        address = self._library.chunker_session_restore(job, capacity, buffer, len(state))
        if not address:
            return None
        kept = (model, stop, progress, buffer)
        return NativeSession(self._library, address, _levels(settings, model), kept)

    def decode(
        self,
        payload: bytes,
        n_bytes: int,
        settings: Settings,
        model: Model | None,
        stop: Stop,
        progress: Progress,
        partial: bool = False,
        known: bytes = b"",
    ) -> bytes:
        """See Backend.decode."""
        content = ctypes.create_string_buffer(n_bytes) if n_bytes else (ctypes.c_char * 1)()
        coding = (payload, len(payload), content, n_bytes)
        result = self._code("decode", coding, n_bytes, settings, model, stop, progress, known)
        if result != _CORRUPT or not partial:
            _check(result)
        return content.raw[:n_bytes]

    def _code(
        self,
        way: str,
        coding: tuple[Any, ...],
        n_bytes: int,
        settings: Settings,
        model: Model | None,
        stop: Stop,
        progress: Progress,
        known: bytes,
    ) -> int:
        """The result of the library's function that encodes or decodes `n_bytes` of content."""
        if settings.needs_model and model is None:
            raise ValueError("a gate above 0 needs a model")
        if not known:
            function = getattr(self._library, f"chunker_{way}_block")
            return int(function(self._job(settings, model, stop, progress), *coding))
        with self._primed(settings, model, known, n_bytes) as (session, keep):
            return session.code_block(way, coding, keep, stop, progress)

    @contextlib.contextmanager
    def _primed(
        self, settings: Settings, model: Model | None, known: bytes, n_bytes: int
    ) -> Iterator[tuple[NativeSession, bool]]:
        """A session that has read what is known, for `n_bytes` more, and whether to keep it as it is."""
        capacity = primed_capacity(known, n_bytes)
        if capacity > PRIMED_BYTES:
            yield _read(self, settings, model, known, capacity), False
            return
        session, lock = kept_session(self, settings, cast("Hashable", model), known)
        if n_bytes > _JOURNALED:
            with lock:
                session = session.copy()
            yield session, False
            return
        with lock:
            yield session, True

    def _job(self, settings: Settings, model: Model | None, stop: Stop, progress: Progress) -> _Job:
        job = _Job(tables=self._tables, kernels=self._kernels)
        job.contexts, job.gate = int(settings.contexts), settings.gate
        job.stop, job.done = ctypes.addressof(stop.flag), ctypes.addressof(progress.count)
        if settings.needs_model and model is not None:
            job.model = _packed(self._library, model).address
        return job


def _read(
    backend: NativeBackend, settings: Settings, model: Model | None, known: bytes, capacity: int
) -> NativeSession:
    session = backend.session(settings, model, capacity, Stop(), Progress())
    session.read(known, asleep=asleep_bytes(known))
    return session


@functools.lru_cache(maxsize=4)
def kept_session(
    backend: NativeBackend, settings: Settings, model: Hashable, known: bytes
) -> tuple[NativeSession, threading.Lock]:
    """A session for contents that take less time than reading what is known; for one thread at a time."""
    return _read(backend, settings, cast("Model | None", model), known, PRIMED_BYTES), threading.Lock()


if hasattr(os, "register_at_fork"):  # a thread that a child does not have may hold the lock
    os.register_at_fork(after_in_child=kept_session.cache_clear)


class NativeSession:
    """See chunker.core.interface.Session."""

    def __init__(self, library: ctypes.CDLL, address: int | None, levels: int, kept: tuple[Any, ...]) -> None:
        """address: of the library's session, which this frees; None: it had no memory. levels: recurrent ones
        that it tells of. kept: the objects that its job points to, which must live as long.
        """
        if not address:
            raise MemoryError
        self._library, self._levels, self._kept = library, levels, kept
        self._address = address
        weakref.finalize(self, library.chunker_session_free, address).atexit = False

    def code_block(
        self, way: str, coding: tuple[Any, ...], keep: bool, stop: Stop, progress: Progress
    ) -> int:
        """The result of the library's function that encodes or decodes the rest of a block."""
        function = getattr(self._library, f"chunker_session_{way}_block")
        told = (ctypes.addressof(stop.flag), ctypes.addressof(progress.count))
        result = int(function(self._address, *coding, keep, *told))
        if keep and result == _NO_MEMORY:  # it may not have found back to its state
            kept_session.cache_clear()
        return result

    def read(
        self, content: bytes, *, asleep: int = 0, detail: bool = False, rank_from: float | None = None
    ) -> Trace:
        """See Session.read."""
        self._check_room(content)
        n, asked = len(content), rank_from is not None
        bits, levels, woke = array("f", bytes(4 * n)), bytearray(n), bytearray(n)
        guesses, confidences = array("H", bytes(2 * n * detail)), bytearray(n * detail)
        probabilities = array("H", bytes(16 * n * detail))
        level_bits = array("f", bytes(4 * n * self._levels * detail))
        ranks, best = array("H", bytes(2 * n * asked)), bytearray(BEST * n * asked)
        best_bits, best_levels = array("f", bytes(4 * BEST * n * asked)), bytearray(BEST * n * asked)
        told: tuple[array[Any] | bytearray, ...] = (
            bits,
            levels,
            woke,
            guesses,
            confidences,
            probabilities,
            level_bits,
        )
        of_best: tuple[array[Any] | bytearray, ...] = (ranks, best, best_bits, best_levels)
        readings = _Readings(*map(_address, told), rank_from or 0.0, *map(_address, of_best))
        result = self._library.chunker_session_read(self._address, content, n, asleep, readings)
        _check(result)
        return Trace(
            bits,
            bytes(levels),
            bytes(woke),
            guesses,
            bytes(confidences),
            probabilities,
            level_bits,
            ranks,
            bytes(best),
            best_bits,
            bytes(best_levels),
        )

    def encode(self, record: bytes) -> bytes:
        """See Session.encode."""
        self._check_room(record)
        capacity = 16 * len(record) + 16  # no bit costs more than 16
        payload = ctypes.create_string_buffer(capacity)
        result = self._library.chunker_session_encode(self._address, record, len(record), payload, capacity)
        _check(result)
        return ctypes.string_at(payload, result)

    def decode(self, payload: bytes, *, end: int | None, limit: int) -> bytes:
        """See Session.decode."""
        limit = limit if end is None else min(limit, self._left)
        if limit > self._left:
            raise CorruptArchive(MISFIT)
        record = (ctypes.c_char * max(limit, 1))()
        last = -1 if end is None else end
        result = self._library.chunker_session_decode(
            self._address, payload, len(payload), record, limit, last
        )
        _check(result)
        return ctypes.string_at(record, result)

    def copy(self) -> NativeSession:
        """See Session.copy."""
        address = self._library.chunker_session_copy(self._address)
        return NativeSession(self._library, address, self._levels, self._kept)

    def save(self) -> bytearray:
        """See Session.save."""
        size = self._library.chunker_session_save(self._address, None, 0)
        _check(size)
        state = bytearray(size)
        _check(self._library.chunker_session_save(self._address, _address(state), size))
        return state

    @property
    def _left(self) -> int:
        """The bytes that there is room for."""
        return int(self._library.chunker_session_left(self._address))

    def _check_room(self, content: bytes) -> None:
        if len(content) > self._left:
            raise ValueError(f"the session has room for {self._left:,} bytes")


def _levels(settings: Settings, model: Model | None) -> int:
    """How many recurrent levels a session has."""
    return 0 if model is None or not settings.needs_model else len(model.config.levels)


def _address(buffer: array[Any] | bytearray) -> int | None:
    """The address of a buffer, which must outlive it and keep its size; None for an empty one."""
    return ctypes.addressof((ctypes.c_char * len(buffer)).from_buffer(buffer)) if buffer else None


def _check(result: int) -> None:
    """Raise the error that a negative result stands for."""
    if result >= 0:
        return
    if result == _STOPPED:
        raise Stopped
    if result == _NO_MEMORY:
        raise MemoryError
    if result == _CORRUPT:
        raise CorruptArchive(MISFIT)
    raise ValueError(f"the core refuses its job ({result})")


class _Packed:
    """A model as the library holds it; freed with the Python object."""

    def __init__(self, library: ctypes.CDLL, config: StackConfig, tensors: Mapping[str, RawTensor]) -> None:
        self.address = library.chunker_model_new(_describe(config, tensors))
        if not self.address:
            raise NotAModel(
                "the model does not fit the codec's integers, or there is no memory for it; train it again, "
                "or raise the limit (ulimit -v)"
            )
        weakref.finalize(self, library.chunker_model_free, self.address).atexit = False


_packed_models: weakref.WeakKeyDictionary[Model, _Packed] = weakref.WeakKeyDictionary()
_packing = threading.Lock()


def _renew_lock() -> None:
    global _packing
    _packing = threading.Lock()


if hasattr(os, "register_at_fork"):  # or a child would wait for a thread that it has not
    os.register_at_fork(after_in_child=_renew_lock)


def _packed(library: ctypes.CDLL, model: Model) -> _Packed:
    with _packing:
        packed = _packed_models.get(model)
        if packed is None:
            packed = _packed_models[model] = _Packed(library, model.config, model.raw_tensors)
        return packed


def _describe(config: StackConfig, tensors: Mapping[str, RawTensor]) -> _Stack:
    """The model as ChunkerStack of chunker.h; its pointers lead into the tensors, which must outlive it.

    Raises
    ------
    UsageError: the codec cannot use such a stack.
    """
    check_stack(config)

    def integers(name: str) -> bytes:
        tensor = tensors[name]
        return tensor.data if sys.byteorder == "little" else tensor.integers().tobytes()

    def matrix(name: str) -> _Matrix:
        if f"{name}.q" not in tensors:
            return _Matrix()
        q = tensors[f"{name}.q"]
        return _Matrix(q.data, integers(f"{name}.multiplier"), *q.shape)

    stack = _Stack(cell=_CELLS[config.cell], levels=len(config.levels), rule=_RULES[config.gate.rule])
    thresholds = tensors["thresholds"].integers()
    stack.thresholds[: len(thresholds)] = thresholds
    if config.ngrams is not None:
        stack.orders, stack.ngram_rows = len(config.ngrams.orders), config.ngrams.rows
        stack.word = config.ngrams.word
        stack.order[: stack.orders] = config.ngrams.orders
        stack.ngram_table = matrix("0.ngram_table")
    stack.catch_up = config.wake.catch_up if config.wake else 0
    for index, width in enumerate(config.levels):
        level = stack.level[index]
        level.width = width
        for name in _MATRICES:
            setattr(level, name, matrix(f"{index}.{name}"))
        for name in _BIASES:
            if f"{index}.{name}" in tensors:
                setattr(level, name, integers(f"{index}.{name}"))
    return stack
