"""Which core answers, and what every core promises to the codec."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from stand_in import StandIn, noise, skewed

from chunker.core import backend as core
from chunker.core.backend import (
    GATE_ALWAYS,
    VARIABLE,
    Backend,
    Contexts,
    Progress,
    Settings,
    Stop,
    Stopped,
    backend,
)
from chunker.errors import CorruptArchive, UsageError

TEXT = b"".join(b"It was the %dth of them, and not the last.\n" % number for number in range(8))


@pytest.fixture
def choose(monkeypatch) -> Iterator[None]:
    """The choice is made anew, between two that are compiled and one that is not."""

    def named(name: str) -> Backend:
        made = StandIn()
        made.name = name
        return made

    monkeypatch.setattr(core, "_compiled", lambda: [named("native avx2"), named("native portable")])
    monkeypatch.setattr(core, "_python", lambda: named("python"))
    backend.cache_clear()
    yield
    backend.cache_clear()


@pytest.mark.usefixtures("choose")
@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("", "native avx2"),
        ("native", "native avx2"),
        ("native avx2", "native avx2"),
        ("native portable", "native portable"),
        ("python", "python"),
    ],
)
def test_the_environment_chooses(monkeypatch, wanted, found):
    monkeypatch.setenv(VARIABLE, wanted)
    assert backend().name == found
    assert backend() is backend()


@pytest.mark.usefixtures("choose")
@pytest.mark.parametrize("wanted", ["native neon", "avx2", "Python"])
def test_what_cannot_be_had_is_told(monkeypatch, wanted):
    monkeypatch.setenv(VARIABLE, wanted)
    with pytest.raises(UsageError, match="choose one of native, native avx2, native portable, python"):
        backend()


@pytest.mark.usefixtures("choose")
def test_python_stands_in_where_nothing_is_compiled(monkeypatch):
    monkeypatch.setattr(core, "_compiled", list)
    monkeypatch.delenv(VARIABLE, raising=False)
    assert backend().name == "python"
    backend.cache_clear()
    monkeypatch.setenv(VARIABLE, "native")
    with pytest.raises(UsageError, match="choose one of python"):
        backend()


@pytest.mark.parametrize("gate", [-1, GATE_ALWAYS + 1])
def test_a_gate_has_bounds(gate):
    with pytest.raises(UsageError, match="from 0 to 4095"):
        Settings(Contexts.FEW, gate)


def test_a_gate_of_zero_needs_no_model():
    assert [Settings(Contexts.ALL, gate).needs_model for gate in (0, 1, GATE_ALWAYS)] == [False, True, True]


# ---- what every core promises ----------------------------------------------------------------------

SETTINGS = [Settings(contexts, gate) for contexts in Contexts for gate in (0, 1200, GATE_ALWAYS)]


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_content_comes_back(tiny_model, settings):
    model = tiny_model if settings.needs_model else None
    for content in (b"x", TEXT, noise(120), bytes(150), skewed(100)):
        stop, progress = Stop(), Progress()
        payload = backend().encode(content, settings, model, 10**6, stop, progress)
        assert payload is not None
        assert progress.value == len(content)
        assert backend().encode(content, settings, model, len(payload), stop, progress) is None
        assert backend().encode(content, settings, model, len(payload) + 1, stop, progress) == payload
        progress = Progress()
        assert backend().decode(payload, len(content), settings, model, stop, progress) == content
        assert progress.value == len(content)


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_payload_is_as_long_as_its_content_wants_it(tiny_model, settings):
    model = tiny_model if settings.needs_model else None
    payload = backend().encode(TEXT, settings, model, 10**6, Stop(), Progress())
    assert payload is not None
    for wrong in (payload + bytes(9), payload[:-9]):
        with pytest.raises(CorruptArchive):
            backend().decode(wrong, len(TEXT), settings, model, Stop(), Progress())


@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_a_trace_counts_the_bits_of_the_payload(tiny_model, settings):
    model = tiny_model if settings.needs_model else None
    found = backend().session(settings, model, len(TEXT), Stop(), Progress()).read(TEXT)
    payload = backend().encode(TEXT, settings, model, 10**6, Stop(), Progress())
    assert payload is not None
    assert len(found.bits) == len(found.levels) == len(TEXT)
    assert min(found.bits) >= 0
    assert sum(found.bits) == pytest.approx(8 * len(payload), abs=64)
    assert any(found.levels) == settings.needs_model
    if settings.gate == GATE_ALWAYS:
        assert all(found.levels)


@pytest.mark.parametrize("settings", [SETTINGS[0], SETTINGS[-1]], ids=str)
def test_what_is_stopped_before_it_begins_does_nothing(tiny_model, settings):
    model = tiny_model if settings.needs_model else None
    stop = Stop()
    stop.set()
    with pytest.raises(Stopped):
        backend().encode(TEXT * 100, settings, model, 10**6, stop, Progress())
    with pytest.raises(Stopped):
        backend().decode(bytes(1000), 100_000, settings, model, stop, Progress())
    with pytest.raises(Stopped):
        backend().session(settings, model, 10**6, stop, Progress()).read(TEXT * 100)


def test_a_block_is_stopped_in_its_middle(tiny_model):
    content, stop, progress = skewed(1 << 22), Stop(), Progress()
    ended: list[BaseException] = []

    def encode() -> None:
        try:
            backend().encode(content, Settings(Contexts.ALL, GATE_ALWAYS), tiny_model, 10**9, stop, progress)
        except Stopped as error:
            ended.append(error)

    thread = threading.Thread(target=encode)
    thread.start()
    while thread.is_alive() and progress.value == 0:
        thread.join(timeout=0.001)
    stop.set()
    thread.join(timeout=60)
    assert [type(error) for error in ended] == [Stopped]
    assert 0 < progress.value < len(content)
