"""A stand-in for the core, quick and watched, for a model that is not looked into,
and contents of every sort."""

from __future__ import annotations

import contextlib
import mmap
import time
import zlib
from array import array
from collections.abc import Callable
from typing import cast

import numpy as np
import pytest

from chunker.core import backend as core
from chunker.core.backend import Progress, Settings, Stop, Trace
from chunker.core.interface import Model as CodingModel
from chunker.errors import CorruptArchive
from chunker.models import Model


class FakeModel:
    """What the codec asks of a model."""

    def __init__(self, fingerprint: bytes = bytes(range(1, 33)), name: str = "fake") -> None:
        self.fingerprint, self.name = fingerprint, name


def fake_model(fingerprint: bytes = bytes(range(1, 33)), name: str = "fake") -> Model:
    return cast(Model, FakeModel(fingerprint, name))


class StandIn:
    """A Backend that deflates, behind a mark of its settings and its model.

    calls: how many blocks were begun. before: called with that number as each begins,
    and with the call's stop.
    """

    name = "stand-in"

    def __init__(self, before: Callable[[int, Stop], None] = lambda call, stop: None) -> None:
        self.calls = 0
        self._before = before

    def _begin(self, settings: Settings, model: CodingModel | None, stop: Stop) -> bytes:
        self.calls += 1
        self._before(self.calls, stop)
        stop.check()
        if settings.needs_model != (model is not None):
            raise AssertionError("a model that is not needed, or none where one is")
        return bytes([settings.contexts, settings.gate & 255]) + (
            cast(Model, model).fingerprint[-1:] if model else b""
        )

    def encode(
        self,
        content: bytes,
        settings: Settings,
        model: CodingModel | None,
        limit_bytes: int,
        stop: Stop,
        progress: Progress,
        known: bytes = b"",
    ) -> bytes | None:
        payload = self._begin(settings, model, stop) + zlib.compress(content, 9)
        progress.value = len(content) // 2
        return payload if len(payload) < limit_bytes else None

    def decode(
        self,
        payload: bytes,
        n_bytes: int,
        settings: Settings,
        model: CodingModel | None,
        stop: Stop,
        progress: Progress,
        partial: bool = False,
        known: bytes = b"",
    ) -> bytes:
        mark = self._begin(settings, model, stop)
        if partial:
            return _beginning(payload, mark, n_bytes)
        if not payload.startswith(mark):
            raise CorruptArchive("damaged: other settings, or another model")
        unpack = zlib.decompressobj()
        try:
            content = unpack.decompress(payload[len(mark) :], n_bytes + 1)
        except zlib.error as error:
            raise CorruptArchive("damaged: no deflate stream") from error
        if len(content) != n_bytes or not unpack.eof or unpack.unused_data:
            raise CorruptArchive("damaged: another length")
        progress.value = n_bytes // 2
        return content

    def session(
        self, settings: Settings, model: CodingModel | None, capacity: int, stop: Stop, progress: Progress
    ) -> StandInSession:
        self._begin(settings, model, stop)
        return StandInSession(settings)

    def restore(
        self,
        settings: Settings,
        model: CodingModel | None,
        capacity: int,
        state: mmap.mmap,
        stop: Stop,
        progress: Progress,
    ) -> StandInSession | None:
        return None


class StandInSession:
    """A new byte costs 8 bits, one that was there before 1 bit; the net wakes for the former."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def read(
        self, content: bytes, *, asleep: int = 0, detail: bool = False, rank_from: float | None = None
    ) -> Trace:
        new = [byte not in content[:at] for at, byte in enumerate(content)]
        bits = array("f", [8.0 if each else 1.0 for each in new])
        levels = bytes(each and self._settings.needs_model for each in new)
        woke = bytes(0 if level else 8 for level in levels)
        return Trace(bits, levels, woke)

    def encode(self, record: bytes) -> bytes:
        return b"\0" + zlib.compress(record)

    def decode(self, payload: bytes, *, end: int | None, limit: int) -> bytes:
        return zlib.decompress(payload[1:])

    def copy(self) -> StandInSession:
        return self

    def save(self) -> bytearray:
        return bytearray()


def use(patch: pytest.MonkeyPatch, stand_in: StandIn) -> StandIn:
    """Let the codec ask the stand-in."""
    patch.setattr(core, "backend", lambda: stand_in)
    return stand_in


def until_stopped(stop: Stop) -> None:
    """What a long block looks like to whoever waits for it."""
    while not stop.is_set():
        time.sleep(0)
    stop.check()


def skewed(n_bytes: int, seed: int = 0) -> bytes:
    """Independent draws of a few letters."""
    letters = np.frombuffer(b"abcdefgh", dtype=np.uint8)
    drawn = np.random.default_rng(seed).choice(
        letters, size=n_bytes, p=[0.6, 0.2, 0.1, 0.05, 0.02, 0.01, 0.01, 0.01]
    )
    return drawn.tobytes()


def noise(n_bytes: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(n_bytes)


def mixed(n_bytes: int) -> bytes:
    """Every kind of block in turn, with blocks of 1000 bytes."""
    parts = [skewed(1000, 1), noise(1000, 2), bytes(1000), b"The same line again and again.\n" * 32]
    return b"".join(parts * (n_bytes // 4000 + 1))[:n_bytes]


def _beginning(payload: bytes, mark: bytes, n_bytes: int) -> bytes:
    """What can be inflated of a payload that is cut."""
    unpack, out = zlib.decompressobj(), b""
    if payload.startswith(mark):
        with contextlib.suppress(zlib.error):
            for byte in payload[len(mark) :]:
                out += unpack.decompress(bytes([byte]), n_bytes)
    return out[:n_bytes]
