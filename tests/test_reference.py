"""The reference in Python and the compiled library: the same codec, byte for byte.

Contents are short, for the reference takes two seconds for a kilobyte.
"""

from __future__ import annotations

import mmap
from array import array
from dataclasses import replace
from functools import cache
from math import isnan
from pathlib import Path

import pytest
from make_golden import GOLDEN, noise, samples, table, text
from test_levels import random_tensors

from chunker.config import GateRule, NGrams, StackConfig, Wake
from chunker.core import native
from chunker.core.backend import GATE_ALWAYS, Backend, Contexts, Progress, Settings, Stop, Stopped, Trace
from chunker.core.history import compress_history
from chunker.core.interface import BEST, RESERVED, Session
from chunker.core.quantize import quantize
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
        "8b91a8bcb4ada32ab76341497d19ed08115ee48ff6c2a29f81546fd6dc2fbe5c124827a8528bb3",
    ),
    "many": (
        CONTENTS["csv"][:80],
        Settings(Contexts.MANY, 0),
        "9b70adfe74f5acb05fad6f4d1f0e26f50f37a5b3ac2a7717a6442d8c8b2cd50226e7c2d9fb7487fc",
    ),
    "all": (
        CONTENTS["json"][:70],
        Settings(Contexts.ALL, 0),
        "84e4f69dfc0d34ea60e644fb6d46186f695e0b5f7e30106ad7fd5ef2ea0956632ebe766d7d47875255b97abbb57a",
    ),
    "woken": (
        CONTENTS["log"][:100],
        Settings(Contexts.MANY, 1200),
        "cc4947b9d410f81e187521fa379006b79431f88c4d5ee9114c4844e5d012027916bfb57e58babe51c1a7becde869f4",
    ),
    "always": (
        CONTENTS["code"][:90],
        Settings(Contexts.ALL, GATE_ALWAYS),
        "8b614a9e9b693d8054c9523201784a7517b70da994b6bee89280bece3ecf5f797c22a5",
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


def read(backend: Backend, content: bytes, settings: Settings, model: Model | None = None) -> Trace:
    """All that a session tells of a content."""
    return backend.session(settings, model, len(content), Stop(), Progress()).read(content, detail=True)


def same(a: Trace, b: Trace) -> bool:
    """Bit for bit: NaN is not equal to itself."""
    return all(bytes(x) == bytes(y) for x, y in zip(vars(a).values(), vars(b).values(), strict=True))


@cache
def random_model(cell: str, threshold_bits: float = 2.5, **fields: object) -> Model:
    """A model that predicts nothing of use, but moves all its levels."""
    config = StackConfig(cell=cell, **{"gate": GateRule("surprise", 1.0), **fields})  # type: ignore[arg-type]
    tensors = random_tensors(config)
    tensors["thresholds_bits"][:] = threshold_bits
    return Model("random", Path("random"), config, {}, raw(quantize(tensors)))


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
    trace = read(REFERENCE, MIXED, settings, model)
    for backend in NATIVE:
        payload = encode(backend, MIXED, settings, model)
        assert same(read(backend, MIXED, settings, model), trace)
    assert REFERENCE.decode(payload, len(MIXED), settings, model, Stop(), Progress()) == MIXED
    assert sum(trace.bits) == pytest.approx(8 * len(payload), abs=40)
    assert max(trace.levels) == (2 if settings.needs_model else 0)


@needs_library
@pytest.mark.parametrize("settings", [Settings(Contexts.ALL, 0), Settings(Contexts.FEW, 600)], ids=str)
def test_what_is_known_is_read_and_not_coded(tiny_model, settings):
    model, known, content = model_of(settings, tiny_model), MIXED[:100], MIXED[100:180]
    job = (settings, model)
    backends: list[Backend] = [REFERENCE, *NATIVE]
    for backend in backends:
        progress = Progress()
        payload = backend.encode(content, *job, 10**6, Stop(), progress, known)
        assert payload is not None
        assert progress.value == len(content)
        assert payload == REFERENCE.encode(content, *job, 10**6, Stop(), Progress(), known)
        assert backend.decode(payload, len(content), *job, Stop(), progress, known=known) == content
        assert progress.value == len(content)
        bits = 8 * len(payload)
    session = REFERENCE.session(*job, len(known + content), Stop(), Progress())
    session.read(known)
    assert sum(session.read(content).bits) == pytest.approx(bits, abs=40)
    stop = Stop()
    stop.set()
    for backend in backends:
        with pytest.raises(Stopped):
            backend.encode(content, *job, 10**6, stop, Progress(), known)


STACKS = {
    "rnn": random_model("rnn", levels=(12,), wake=Wake(slept=True)),
    "rnn-3": random_model("rnn", 8.0, levels=(12, 10, 9)),
    "gru": random_model("gru", levels=(20,), wake=Wake(slept=True, guess=True, catch_up=0)),
    "gru-2": random_model(
        "gru", levels=(12, 18), wake=Wake(catch_up=3), ngrams=NGrams((1, 2, 8), 64, 5, word=True)
    ),
    "gru-3": random_model("gru", levels=(7, 18, 5), time_code=False, gate=GateRule("surprise", 2.5)),
    "gru-2-word": random_model("gru", levels=(12, 18), gate=GateRule("word")),
    "lstm": random_model("lstm", levels=(17,), mode="faithful", ngrams=NGrams((3,), 1, 70, word=True)),
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
    trace = read(REFERENCE, content, settings, model)
    for backend in NATIVE:
        assert same(read(backend, content, settings, model), trace)
    payload = encode(NATIVE[0], content, settings, model)
    assert REFERENCE.decode(payload, len(content), settings, model, Stop(), Progress()) == content
    assert set(trace.levels) >= set(range(1, len(model.config.levels) + 1))
    assert (0 in trace.levels) == (gate == 500)


@needs_library
def test_a_session_without_a_model_tells_when_levels_would_wake():
    settings = Settings(Contexts.FEW, 500)
    trace = read(REFERENCE, MIXED, settings)
    assert set(trace.levels) == {0}
    assert set(trace.woke) > {0, 8}
    alone = read(REFERENCE, MIXED, Settings(Contexts.FEW, 0))
    assert (trace.bits, trace.probabilities) == (alone.bits, alone.probabilities)
    assert set(alone.woke) == {8}
    for backend in NATIVE:
        assert same(read(backend, MIXED, settings), trace)


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_a_session_reads_in_as_many_parts_as_one_likes(tiny_model, backend):
    settings = Settings(Contexts.FEW, 500)
    whole = read(backend, MIXED, settings, tiny_model)
    session = backend.session(settings, tiny_model, len(MIXED), Stop(), Progress())
    parts = [session.read(MIXED[at : at + 70], detail=True) for at in range(0, len(MIXED), 70)]
    for name, expected in vars(whole).items():
        assert b"".join(bytes(getattr(part, name)) for part in parts) == bytes(expected)
    assert session.read(b"") == Trace(array("f"), b"", b"")
    with pytest.raises(ValueError, match="has room for 0 bytes"):
        session.read(b"x")


@pytest.mark.parametrize("gate", [500, GATE_ALWAYS])
def test_recurrent_levels_sleep_at_first_where_they_are_told_to(tiny_model, gate):
    settings, asleep = Settings(Contexts.FEW, gate), len(MIXED) // 2

    def told(backend: Backend, n: int) -> Trace:
        session = backend.session(settings, tiny_model, len(MIXED), Stop(), Progress())
        return session.read(MIXED, asleep=n, detail=True)

    trace, awake = told(REFERENCE, asleep), told(REFERENCE, 0)
    assert set(trace.levels[:asleep]) == {0}
    assert set(trace.woke[:asleep]) == {8}
    assert set(trace.levels[asleep:]) > {0} if gate < GATE_ALWAYS else 0 not in trace.levels[asleep:]
    assert trace.bits[:asleep] != awake.bits[:asleep]
    for backend in NATIVE:
        assert same(told(backend, asleep), trace)


# ---- rank, and the likeliest bytes -----------------------------------------------------------------


@pytest.mark.parametrize("backend", NATIVE, ids=lambda backend: backend.name)
@pytest.mark.parametrize("settings", EVERY_SETTING[::2], ids=str)
def test_rank_and_likeliest_bytes_are_what_other_bytes_would_cost(tiny_model, settings, backend):
    model = model_of(settings, tiny_model)
    session = backend.session(settings, model, len(MIXED), Stop(), Progress())
    for at in range(0, len(MIXED), 115):
        others = [session.copy().read(bytes([byte]), detail=True) for byte in range(256)]
        ask = session.copy().read(MIXED[at : at + 1], rank_from=0)
        costs = [other.bits[0] for other in others]
        assert ask.ranks[0] == 1 + sum(cost < ask.bits[0] for cost in costs)
        best = sorted(range(256), key=lambda byte: (costs[byte], byte))[:BEST]
        assert list(ask.best) == best
        assert ask.best_bits.tolist() == [costs[byte] for byte in best]
        awake = [[bits for bits in others[byte].level_bits if not isnan(bits)] for byte in best]
        alone = [[costs[byte], *bits] for byte, bits in zip(best, awake, strict=True)]
        assert list(ask.best_levels) == [each.index(min(each)) for each in alone]
        session.read(MIXED[at : at + 115])


@pytest.mark.parametrize("backend", NATIVE, ids=lambda backend: backend.name)
@pytest.mark.parametrize("name", ["gru-2", "lstm-2"])
def test_asking_for_ranks_changes_nothing(backend, name):
    settings, model = Settings(Contexts.FEW, 500), STACKS[name]
    plain = read(backend, MIXED, settings, model)
    session = backend.session(settings, model, len(MIXED), Stop(), Progress())
    asked = session.read(MIXED[:200], detail=True, rank_from=5)
    rest = session.read(MIXED[200:], detail=True)
    assert [rank > 0 for rank in asked.ranks] == [bits >= 5 for bits in asked.bits]
    assert bytes(asked.bits + rest.bits) == bytes(plain.bits)
    assert bytes(asked.level_bits + rest.level_bits) == bytes(plain.level_bits)
    assert asked.levels + rest.levels == plain.levels
    assert not rest.ranks


@needs_library
@pytest.mark.parametrize("gate", [0, 500])
def test_ranks_of_the_reference(tiny_model, gate):
    settings, model = Settings(Contexts.FEW, gate), tiny_model if gate else None

    def told(backend: Backend) -> Trace:
        session = backend.session(settings, model, len(MIXED), Stop(), Progress())
        session.read(MIXED[:150])
        return session.read(MIXED[150:153], rank_from=4.5)

    trace = told(REFERENCE)
    assert 0 < sum(rank > 0 for rank in trace.ranks) < 3
    for backend in NATIVE:
        assert same(told(backend), trace)


# ---- records ---------------------------------------------------------------------------------------

RECORDS = [b"", b"id=17, name=chunker\n", bytes(range(246, 256)), MIXED[40:90], b"id=17, name=chunker\n"]


def after(backend: Backend, settings: Settings, model: Model | None, room: int = 2000) -> Session:
    """A session that has read something."""
    session = backend.session(settings, model, 150 + room, Stop(), Progress())
    session.read(MIXED[:150])
    return session


@needs_library
@pytest.mark.parametrize("settings", EVERY_SETTING[::2], ids=str)
def test_records_and_the_way_back(tiny_model, settings):
    model = model_of(settings, tiny_model)
    reference = after(REFERENCE, settings, model)
    payloads = [reference.encode(record) for record in RECORDS]
    for session in (after(backend, settings, model) for backend in NATIVE):
        assert [session.encode(record) for record in RECORDS] == payloads
        for record, payload in zip(RECORDS[::-1], payloads[::-1], strict=True):
            assert session.decode(payload, end=None, limit=len(record)) == record
    for record, payload in zip(RECORDS[:3], payloads, strict=False):
        assert reference.decode(payload, end=None, limit=len(record)) == record


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_a_record_is_coded_as_what_comes_next_and_leaves_no_trace(tiny_model, backend):
    settings, record = Settings(Contexts.FEW, 500), MIXED[90:150]
    session = after(backend, settings, tiny_model)
    payload = session.encode(record)
    assert payload[0] < RESERVED
    other = session.copy()
    trace = session.read(record, detail=True)
    assert 8 * len(payload) == pytest.approx(sum(trace.bits), abs=16)
    assert same(after(backend, settings, tiny_model).read(record, detail=True), trace)
    assert other.encode(record) == payload
    assert other.decode(payload, end=None, limit=len(record)) == record
    assert same(other.read(record, detail=True), trace)
    assert session.encode(record) == other.encode(record) != payload


@pytest.mark.parametrize("backend", BACKENDS, ids=lambda backend: backend.name)
def test_a_record_ends_with_its_last_byte_or_by_its_length(backend):
    session = after(backend, Settings(Contexts.FEW, 0), None)
    payload = session.encode(b"one line\n")
    assert session.decode(payload, end=ord("\n"), limit=9) == b"one line\n"
    for end, limit in ((ord("\n"), 8), (ord("x"), 100), (None, 10**6)):
        with pytest.raises(CorruptArchive):
            session.decode(payload, end=end, limit=limit)
    for damaged in (payload + b"\0", b"", b"\xfe" + payload, b"\xff"):
        with pytest.raises(CorruptArchive):
            session.decode(damaged, end=None, limit=9)
    assert session.decode(payload, end=None, limit=9) == b"one line\n"
    with pytest.raises(ValueError, match="has room for 2,000 bytes"):
        session.encode(bytes(2001))


@needs_library
def test_a_long_record_is_as_good_as_a_short_one():
    content = table(9000)
    for backend in NATIVE:
        session = after(backend, Settings(Contexts.FEW, 0), None, 10_000)
        short = session.encode(content[:100])
        payload = session.encode(content)
        assert 8 * len(payload) == pytest.approx(sum(session.copy().read(content).bits), abs=16)
        assert session.decode(payload, end=None, limit=len(content)) == content
        lines = content.replace(b"\n", b" ") + b"\n"
        assert session.decode(session.encode(lines), end=ord("\n"), limit=10_000) == lines
        assert session.encode(content[:100]) == short


@pytest.mark.parametrize("backend", NATIVE, ids=lambda backend: backend.name)
@pytest.mark.parametrize("settings", [Settings(Contexts.MANY, 0), Settings(Contexts.FEW, 500)], ids=str)
def test_a_saved_state_goes_on_where_it_was(tiny_model, tmp_path, backend, settings):
    model, path = model_of(settings, tiny_model), tmp_path / "state"
    session = after(backend, settings, model)
    path.write_bytes(session.save())

    def restored(settings: Settings, room: int = 2000) -> Session | None:
        with path.open("rb") as file:
            state = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        given = model_of(settings, tiny_model)
        found: Session | None = backend.restore(settings, given, 150 + room, state, Stop(), Progress())
        return found

    other = restored(settings)
    assert other is not None
    assert [other.encode(record) for record in RECORDS] == [session.encode(record) for record in RECORDS]
    assert other.copy().encode(MIXED) == session.encode(MIXED)
    with pytest.raises(ValueError, match="room for 2,000"):
        other.encode(bytes(2001))
    assert same(other.read(MIXED[150:], detail=True), session.read(MIXED[150:], detail=True))
    assert restored(settings, 2001) is None
    assert restored(Settings(Contexts.ALL, settings.gate)) is None
    assert restored(Settings(settings.contexts, 300)) is None
    path.write_bytes(path.read_bytes()[:-64])
    assert restored(settings) is None


def test_level_bits_are_those_of_the_integer_levels(tiny_model):
    """With the levels awake at every byte they go the way that histories are made on."""
    trace = read(NATIVE[0] if NATIVE else REFERENCE, MIXED, Settings(Contexts.FEW, GATE_ALWAYS), tiny_model)
    (history,) = compress_history(tiny_model.integer_stack(), [MIXED])
    own = history.levels[0].surprises_bits
    assert list(trace.level_bits[::2]) == pytest.approx(own, abs=2e-3)
    came = [t + 1 for t in history.levels[1].times if t + 1 < len(MIXED)]
    assert [t for t, moved in enumerate(trace.levels) if moved == 2] == came


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
        lambda stop, progress: REFERENCE.session(settings, None, 200, stop, progress).read(content),
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
