"""The reference in Python and the compiled library: the same codec, byte for byte.

Contents are short, for the reference takes two seconds for a kilobyte.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
from make_golden import GOLDEN, noise, samples, table, text
from test_levels import random_tensors

from chunker.config import GateRule, NGrams, StackConfig, Wake
from chunker.core import native
from chunker.core.backend import GATE_ALWAYS, Backend, Contexts, Progress, Settings, Stop, Stopped
from chunker.core.quantize import freeze
from chunker.core.reference import PythonBackend, tables
from chunker.errors import CorruptArchive, UsageError
from chunker.models import Model, load_model, raw

REFERENCE = PythonBackend()
NATIVE = native.load()
BACKENDS: list[Backend] = [REFERENCE, *NATIVE]
needs_library = pytest.mark.skipif(not NATIVE, reason="there is no compiled library")

LOG = b"".join(
    b"2024-05-06 07:%02d:%02d.%03d INFO [worker-%d] request %d done in %d ms\n"
    % (i // 7, 13 * i % 60, 37 * i % 1000, i % 3, 4711 + i, 5 + 3 * i % 11)
    for i in range(3)
)
JSON = b"".join(
    b'{"id": %d, "user": {"name": "anna%d", "tags": [%d, %d]}, "ok": true}\n' % (i, i % 2, i, 2 * i)
    for i in range(3)
)
CODE = b"int add(int a, int b) {\n    return a + b;\n}\n\nint twice(int a) {\n    return add(a, a);\n}\n"
CONTENTS = {
    "empty": b"",
    "one byte": b"x",
    "text": text(200),
    "csv": table(200),
    "binary": samples(150),
    "log": LOG,
    "json": JSON,
    "code": CODE,
    "repeats": b"a phrase of thirty bytes or so" * 5 + b"!" + b"a phrase of thirty bytes or so" * 2,
    "zeros": bytes(120),
    "all bytes": bytes(range(256)),
    "noise": noise(120),
    "utf-8": "Größe, Straße, Übung; größer, süß\n".encode() * 4,
}
MIXED = text(60) + CODE[:60] + JSON[:75] + table(70) + noise(20) + text(60)
EVERY_SETTING = [Settings(contexts, gate) for contexts in Contexts for gate in (0, 1200, GATE_ALWAYS)]

# If one of these has to change, the format has another version.
KNOWN = {
    "few": (
        CONTENTS["text"][:60],
        Settings(Contexts.FEW, 0),
        "8b88039550844364cbc16f0486a96b95aa83bd93d8a7165604bf2653ef82698469a8049738ce14a7bc",
    ),
    "many": (
        CONTENTS["csv"][:80],
        Settings(Contexts.MANY, 0),
        "9b6e2d57c14f861f64c2eceaddad9bb4bb32799a1ac978bae9877084e0962458e19b145713f5d23027",
    ),
    "all": (
        CONTENTS["json"][:70],
        Settings(Contexts.ALL, 0),
        "84dd9ffca9648dfb65ceae85a4767c4ddfb6651527e1301fbe3ab663ca8f5d9bad4a0477a163ce0e7213e576cf5d73",
    ),
    "woken": (
        CONTENTS["log"][:100],
        Settings(Contexts.MANY, 1200),
        "cc59c0452ffc349dbafd6807c108687d535cc9e0f30a8dac20fda775bfc55cb14c7c916103fdb798808076dac956569c",
    ),
    "always": (
        CONTENTS["code"][:90],
        Settings(Contexts.ALL, GATE_ALWAYS),
        "8b62a4da8bfca91ba206bd759d6807f6b6038e42f14213c325d978a9ae39294563da22e5",
    ),
    "empty": (b"", Settings(Contexts.FEW, 0), "ff"),
}


def model_of(settings: Settings, model: Model) -> Model | None:
    return model if settings.needs_model else None


def encode(backend: Backend, content: bytes, settings: Settings, model: Model | None = None) -> bytes:
    progress = Progress()
    payload = backend.encode(content, settings, model, 10**6, Stop(), progress)
    assert payload is not None
    assert progress.value == len(content)
    return payload


def decoded(backend: Backend, payload: bytes, n_bytes: int, settings: Settings) -> tuple[bytes | None, int]:
    """The content, None if the payload is refused; and how far the decoder was then."""
    progress = Progress()
    try:
        return backend.decode(payload, n_bytes, settings, None, Stop(), progress), progress.value
    except CorruptArchive:
        return None, progress.value


@cache
def random_model(cell: str, threshold_bits: float = 2.5, **fields: object) -> Model:
    """A model that predicts nothing of use, but moves all its levels."""
    config = StackConfig(cell=cell, **{"gate": GateRule("surprise", 1.0), **fields})  # type: ignore[arg-type]
    tensors = random_tensors(config)
    tensors["thresholds_bits"][:] = threshold_bits
    return Model("random", Path("random"), config, {}, raw(freeze(tensors)))


# ---- the same bytes ---------------------------------------------------------------------------------


def test_the_tables_are_those_of_every_implementation():
    assert tables.digest() == native.TABLES_DIGEST


@needs_library
@pytest.mark.parametrize("name", CONTENTS)
@pytest.mark.parametrize("contexts", Contexts)
def test_contexts_alone(contexts, name):
    content, settings = CONTENTS[name], Settings(contexts, 0)
    payload = encode(REFERENCE, content, settings)
    for backend in NATIVE:
        assert encode(backend, content, settings) == payload
        assert backend.decode(payload, len(content), settings, None, Stop(), Progress()) == content


@needs_library
@pytest.mark.parametrize("settings", EVERY_SETTING, ids=str)
def test_payload_trace_and_the_way_back(tiny_model, settings):
    model = model_of(settings, tiny_model)
    trace = REFERENCE.trace(MIXED, settings, model, Stop(), Progress())
    for backend in NATIVE:
        payload = encode(backend, MIXED, settings, model)
        assert backend.trace(MIXED, settings, model, Stop(), Progress()) == trace
    assert REFERENCE.decode(payload, len(MIXED), settings, model, Stop(), Progress()) == MIXED
    assert len(payload) == trace.payload_bytes
    assert max(trace.levels) == (2 if settings.needs_model else 0)


STACKS = {
    "rnn": random_model("rnn", levels=(12,), wake=Wake(slept=True)),
    "rnn-3": random_model("rnn", 8.0, levels=(12, 10, 9)),
    "gru": random_model("gru", levels=(20,), wake=Wake(slept=True, guess=True, catch_up=0)),
    "gru-2": random_model("gru", levels=(12, 18), wake=Wake(catch_up=3), ngrams=NGrams((1, 2, 8), 64, 5)),
    "gru-3": random_model("gru", levels=(7, 18, 5), time_code=False, gate=GateRule("surprise", 2.5)),
    "lstm": random_model("lstm", levels=(17,), mode="faithful", ngrams=NGrams((3,), 1, 70)),
    "lstm-2": random_model("lstm", levels=(12, 10), wake=Wake(slept=True, guess=True, catch_up=2)),
}
_tiny = load_model(GOLDEN / "tiny.safetensors")
STACKS["gru-2-argmax"] = Model(
    "argmax", _tiny.path, replace(_tiny.config, gate=GateRule("argmax")), {}, _tiny.raw_tensors
)


@needs_library
@pytest.mark.parametrize("gate", [500, GATE_ALWAYS])
@pytest.mark.parametrize("name", STACKS)
def test_every_sort_of_stack(name, gate):
    content, settings, model = MIXED[30:180] + bytes(20), Settings(Contexts.FEW, gate), STACKS[name]
    trace = REFERENCE.trace(content, settings, model, Stop(), Progress())
    for backend in NATIVE:
        assert backend.trace(content, settings, model, Stop(), Progress()) == trace
    payload = encode(NATIVE[0], content, settings, model)
    assert REFERENCE.decode(payload, len(content), settings, model, Stop(), Progress()) == content
    assert set(trace.levels) >= set(range(1, len(model.config.levels) + 1))
    assert (0 in trace.levels) == (gate == 500)


@pytest.mark.parametrize("name", KNOWN)
def test_known_answers(tiny_model, name):
    """So that nothing changes which the library and the reference both follow."""
    content, settings, payload = KNOWN[name]
    model = model_of(settings, tiny_model)
    for backend in BACKENDS:
        assert encode(backend, content, settings, model).hex() == payload
    back = REFERENCE.decode(bytes.fromhex(payload), len(content), settings, model, Stop(), Progress())
    assert back == content


# ---- payloads that are not their content's ------------------------------------------------------------


@cache
def wrong_payloads() -> dict[str, tuple[bytes, int]]:
    """Payloads and sizes that do not fit together."""
    content, few = CONTENTS["text"], Settings(Contexts.FEW, 0)
    payload = encode(REFERENCE, content, few)
    return {
        "empty": (b"", 100),
        "half": (payload[: len(payload) // 2], len(content)),
        "four bytes less": (payload[:-4], len(content)),
        "a zero more": (payload + b"\0", len(content)),
        "much more": (payload + bytes(9), len(content)),
        "claims less": (payload, len(content) - 10),
        "claims much more": (payload, len(content) + 500),
        "nothing of something": (payload, 0),
        "zeros": (bytes(40), 100),
        "ones": (b"\xff" * 40, 100),
        "noise": (noise(10), 200),
    }


@pytest.mark.parametrize("name", wrong_payloads())
def test_a_payload_that_does_not_fit_is_refused(name):
    payload, n_bytes = wrong_payloads()[name]
    result = decoded(REFERENCE, payload, n_bytes, Settings(Contexts.FEW, 0))
    assert result[0] is None
    for backend in NATIVE:
        assert decoded(backend, payload, n_bytes, Settings(Contexts.FEW, 0)) == result


@needs_library
def test_what_is_refused_is_the_same_to_the_byte():
    """The last bytes of a payload may fit another end of the content, which the archive's CRC finds."""
    settings = Settings(Contexts.FEW, 0)
    zeros, words = encode(REFERENCE, bytes(40), settings), encode(REFERENCE, CONTENTS["code"], settings)
    sizes = [(zeros, n_bytes) for n_bytes in range(30, 50)]
    cuts = [
        (words[:-cut] + noise(more), len(CONTENTS["code"])) for cut in (1, 2, 3) for more in (0, 1, 2, 3, 4)
    ]
    outcomes = set()
    for payload, n_bytes in sizes + cuts:
        result = decoded(REFERENCE, payload, n_bytes, settings)
        assert all(decoded(backend, payload, n_bytes, settings) == result for backend in NATIVE)
        outcomes.add(result[0] is None)
    assert outcomes == {False, True}


# ---- limits, stops, models ------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_it_ends_as_soon_as_the_payload_is_too_long(backend):
    content, settings = noise(300), Settings(Contexts.FEW, 0)
    size = len(encode(backend, content, settings))
    for limit_bytes, reached in ((size, 300), (size - 1, 300), (100, 64), (1, 0)):
        progress = Progress()
        assert backend.encode(content, settings, None, limit_bytes, Stop(), progress) is None
        assert progress.value == reached
    assert backend.encode(content, settings, None, size + 1, Stop(), Progress()) is not None


class StopsAt(Progress):
    """Asks to stop once so many bytes are done."""

    def __init__(self, n_bytes: int) -> None:
        super().__init__()
        self.stop = Stop()
        self._n_bytes = n_bytes

    @property
    def value(self) -> int:
        return self.count.value

    @value.setter
    def value(self, n_bytes: int) -> None:
        self.count.value = n_bytes
        if n_bytes >= self._n_bytes:
            self.stop.set()


@pytest.mark.parametrize("n_bytes", [0, 64])
def test_it_stops_when_it_is_asked_to(n_bytes):
    settings, content = Settings(Contexts.FEW, 0), noise(200)
    for call in (
        lambda stop, progress: REFERENCE.encode(content, settings, None, 1000, stop, progress),
        lambda stop, progress: REFERENCE.decode(content, 200, settings, None, stop, progress),
        lambda stop, progress: REFERENCE.trace(content, settings, None, stop, progress),
    ):
        progress = StopsAt(n_bytes)
        with pytest.raises(Stopped):
            call(progress.stop, progress)
        assert progress.value == n_bytes


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_a_stack_that_cannot_code_is_refused(backend):
    settings = Settings(Contexts.FEW, 1200)
    for model in (
        random_model("gru", levels=(5,), symbols=11),
        random_model("gru", levels=(5, 4), mode="faithful"),
    ):
        with pytest.raises(UsageError, match="compress with a model"):
            backend.encode(b"text", settings, model, 100, Stop(), Progress())
    with pytest.raises(ValueError, match="needs a model"):
        backend.encode(b"text", settings, None, 100, Stop(), Progress())
