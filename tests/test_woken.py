"""Training on what level 0 foretold: records, windows, and floats that follow the codec's integers."""

from __future__ import annotations

import errno
import itertools
import signal
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from make_golden import table, text

torch = pytest.importorskip("torch")

import chunker
from chunker.config import GateRule, NGrams, StackConfig, Wake
from chunker.core.backend import Contexts, Progress, Settings, Stop, backend
from chunker.errors import CheckpointError, CorpusError, UsageError
from chunker.learning import LogPoint, WokenConfig, distill, train
from chunker.learning.corpus import Strip, TextFile
from chunker.learning.distillation import fresh_student
from chunker.learning.foretold import Foretold, foretell
from chunker.learning.observation import surprise_bits
from chunker.learning.run import Run
from chunker.learning.stack import Stack
from chunker.learning.starting import start_distillation, start_training
from chunker.learning.woken import (
    Windows,
    WokenStack,
    code_nats,
    path_odds,
)

SETTINGS = Settings(Contexts.FEW, 700)
TEXT = text(3000) + table(3000)


def strip(content: bytes) -> Strip:
    array = np.frombuffer(content, dtype=np.uint8)
    return Strip([(TextFile("text", len(array), Path("text"), array), 0, len(array))])


@pytest.fixture
def foretold(tmp_path: Path) -> Foretold:
    return foretell([("text", strip(TEXT))], tmp_path / "cache", SETTINGS)[0]


def test_the_records_are_what_a_session_tells(foretold: Foretold):
    trace = backend().session(SETTINGS, None, len(TEXT), Stop(), Progress()).read(TEXT, detail=True)
    woken = [at for at, woke in enumerate(trace.woke) if woke < 8 and at]
    assert foretold.text.tobytes() == TEXT
    assert foretold.blocks.tolist() == [[len(TEXT), len(woken)]]
    assert foretold.steps["position"].tolist() == woken
    assert foretold.steps["woke"].tolist() == [trace.woke[at] for at in woken]
    assert foretold.steps["confidence"].tolist() == [trace.confidences[at] for at in woken]
    assert foretold.steps["probability"].reshape(-1).tolist() == [
        p for at in woken for p in trace.probabilities[8 * at : 8 * at + 8]
    ]


def test_a_folder_is_gone_on_with_and_not_made_anew(tmp_path: Path):
    sources = [("a", strip(TEXT)), ("b", strip(TEXT[:2000]))]
    first = foretell(sources[:1], tmp_path, SETTINGS)[0]
    made = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npy")}
    again, other = foretell(sources, tmp_path, SETTINGS)
    assert {path: path.stat().st_mtime_ns for path in made} == made
    assert np.array_equal(first.steps, again.steps)
    assert len(other.text) == 2000
    with pytest.raises(CorpusError, match="made with gate 700"):
        foretell(sources, tmp_path, Settings(Contexts.FEW, 800))
    with pytest.raises(CorpusError, match="made with contexts few"):
        foretell(sources, tmp_path, Settings(Contexts.MANY, 700))
    assert np.array_equal(foretell(sources[:1], tmp_path, Settings(Contexts.FEW, 300))[0].steps, first.steps)


def test_windows_of_a_lower_gate_have_the_steps_at_which_it_would_wake(foretold: Foretold):
    windows = Windows([foretold], [1.0], 4, 2, 64, gate=300)
    p = foretold.steps["probability"].astype(float)
    unsure = np.abs(np.log(p / (65536 - p))) * 256 < 300
    unsure &= np.arange(8) >= foretold.steps["woke"][:, None]
    wakes = unsure.any(1)
    at, woke = foretold.steps["position"][wakes].astype(int), unsure.argmax(1)[wakes]
    assert 0 < len(at) < len(foretold.steps)
    read = [windows.next() for _ in range(len(at) // 64)]
    for row in range(2):
        assert np.array_equal(
            torch.cat([w.targets[:, row] for w in read]), foretold.text[at][: len(read) * 64]
        )
        assert np.array_equal(torch.cat([w.woke[:, row] for w in read]), woke[: len(read) * 64])
        times = torch.cat([w.times[:, row] for w in read])
        assert np.array_equal(times, np.diff(at, prepend=0)[: len(times)])


@pytest.mark.parametrize("name", ["foretold.json", "steps.npy"])
@pytest.mark.parametrize("left", [b"", b"cut", b"[]"])
def test_a_damaged_folder_is_refused_in_one_line(tmp_path: Path, name: str, left: bytes):
    foretell([("a", strip(TEXT))], tmp_path, SETTINGS)
    (damaged,) = tmp_path.rglob(name)
    damaged.write_bytes(left)
    with pytest.raises(CorpusError, match="damaged; delete"):
        foretell([("a", strip(TEXT))], tmp_path, SETTINGS)


def test_a_disk_that_fills_up_is_named_and_gone_on_from(tmp_path: Path):
    resource = pytest.importorskip("resource")
    old, limits = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(OSError, match=r"text\.npy") as failure:
            foretell([("a", strip(TEXT))], tmp_path, SETTINGS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, old)
    assert failure.value.errno == errno.EFBIG
    assert foretell([("a", strip(TEXT))], tmp_path, SETTINGS)[0].text.tobytes() == TEXT


def test_path_odds_are_those_of_the_bytes_that_agree():
    logits = torch.randn(20, 256, dtype=torch.float64) * 3
    targets = torch.arange(20) * 12
    odds = path_odds(logits, targets)
    p = torch.softmax(logits, 1)
    for n in range(20):
        for j in range(8):
            agree = [b for b in range(256) if b >> (8 - j) == int(targets[n]) >> (8 - j)]
            one = sum(float(p[n, b]) for b in agree if b >> (7 - j) & 1)
            zero = sum(float(p[n, b]) for b in agree if not b >> (7 - j) & 1)
            assert float(odds[n, j]) == pytest.approx(np.log(one / zero), abs=2e-3)


SURPRISES, WORDS = GateRule("surprise", 8.0), GateRule("word")


def config(levels: tuple[int, ...] = (24,), **fields: object) -> StackConfig:
    told = {"ngrams": NGrams((1, 2, 4), 64, 12, word=True), "wake": Wake(slept=True, guess=True)}
    return StackConfig(levels=levels, **{"gate": SURPRISES, **told, **fields})  # type: ignore[arg-type]


def excited(net: WokenStack) -> WokenStack:
    """Weights with which every input counts for something."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in net.stack.named_parameters():
            scale = 0.6 if "input" in name or "table" in name else 0.25
            weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
    return net


@pytest.mark.parametrize(
    ("levels", "gate"), [((24,), SURPRISES), ((24, 20, 16), SURPRISES), ((24, 20), WORDS)], ids=str
)
@pytest.mark.parametrize("cell", ["rnn", "gru", "lstm"])
def test_floats_follow_the_integers_of_the_codec(
    foretold: Foretold, cell: str, levels: tuple[int, ...], gate: GateRule, tmp_path: Path
) -> None:
    net = excited(WokenStack(Stack(config(levels, cell=cell, gate=gate)))).eval()
    model = net.stack.to_model()
    trace = backend().session(SETTINGS, model, len(TEXT), Stop(), Progress()).read(TEXT, detail=True)
    # The windows come from where the codec woke with this model in the mixture, so that both wake at the same
    # bytes.
    woken = np.array([at for at, woke in enumerate(trace.woke) if woke < 8 and at])
    steps = np.zeros(len(woken), foretold.steps.dtype)
    steps["position"] = woken
    steps["confidence"] = np.frombuffer(trace.confidences, np.uint8)[woken]
    steps["guess"] = np.where(steps["confidence"] > 0, np.array(trace.guesses)[woken], 0)
    steps["probability"] = 32768
    own = Foretold("text", tmp_path, foretold.text, steps, np.array([[len(TEXT), len(woken)]]))
    windows = Windows([own], [1.0], 4, 1, 100, words=True)
    state, found, moved = net.start(1), [], []
    with torch.no_grad():
        for _ in range(len(woken) // 100):
            window = windows.next()
            output = net(window, state)
            state = output.state
            found += (surprise_bits(output.logits, window.targets)[:, 0]).tolist()
            moved += sum(events[:, 0].long() for events in output.events).tolist()
    depth = len(levels)
    expected = [trace.level_bits[at * depth + depth - 1] for at in woken[: len(found)]]
    # The levels that received a byte move before the next one at which the first level wakes.
    came = [trace.levels[at] for at in woken[1 : len(moved)]]
    assert np.mean(np.array(moved[:-1]) == came) > 0.95
    assert depth == 1 or {1, 2, depth} <= set(came)
    assert np.mean(np.abs(np.array(found) - expected)) < 0.1 * np.std(expected)


# ---- training ----------------------------------------------------------------------------------------

SMALL: dict[str, Any] = {
    "levels": (16,),
    "batch": 4,
    "window": 32,
    "validations": 2,
    "precision": "float32",
    "learning_rate": 1e-2,
}
WOKEN = WokenConfig("few", 700)


def parameters(stack: Stack) -> list[np.ndarray]:
    return [weight.detach().numpy().copy() for weight in stack.state_dict().values()]


def check_that_it_goes_on(begin: Callable[[str], Run]) -> None:
    """A run that was stopped and resumed makes the weights of one that was not. begin: by the name of where
    its checkpoint is."""

    def run(name: str, steps: int | None) -> list[np.ndarray]:
        begun = begin(name)
        seen = itertools.count(1)
        begun.run(stop=lambda: next(seen) == steps)
        return parameters(begun.stack()) if begun.trainer.finished else []

    whole = run("whole", None)
    assert not run("parts", 5)
    for mine, expected in zip(run("parts", None), whole, strict=True):
        assert np.array_equal(mine, expected)


def test_training_saves_bits_that_level_0_would_take(tmp_path: Path):
    points: list[LogPoint] = []
    stack = train(
        TEXT * 3, bytes=150_000, woken=WOKEN, progress=points.append, ngrams=NGrams((2, 4), 256, 8), **SMALL
    )
    scored = [point.validation_bits_per_byte for point in points if point.validation_bits_per_byte]
    assert scored[-1] < scored[0]
    assert stack.summary["woken"] == {"contexts": "few", "gate": 700}
    assert stack.config.wake == Wake(slept=True, guess=True)
    archive = chunker.compress(TEXT, model=stack)
    assert chunker.decompress(archive, model=stack) == TEXT


def test_a_stack_that_read_every_byte_may_learn_to_be_woken():
    settings = {"bytes": 4_000, **SMALL}
    begun = train(TEXT, **settings)
    tuned = train(TEXT * 3, init=begun, woken=WOKEN, **{**settings, "learning_rate": 1e-30, "levels": None})
    assert tuned.config == replace(begun.config, wake=Wake(slept=True, guess=True))
    weights = dict(tuned.named_parameters())
    assert all(torch.equal(weights[name], weight) for name, weight in begun.named_parameters())


def test_a_resumed_run_is_one_that_was_not_stopped(tmp_path: Path):
    settings = {"bytes": 60_000, **SMALL, "levels": (12, 10), "gate": GateRule("rate", 0.5)}

    def begin(folder: str) -> Run:
        place = tmp_path / folder
        place.mkdir(exist_ok=True)
        return start_training(
            TEXT * 3,
            settings,
            resume=place / "checkpoint",
            woken=WOKEN,
            foretold=place / "foretold",
            device="cpu",
        )

    check_that_it_goes_on(begin)


TAUGHT: dict[str, Any] = {"bytes": 40_000, "batch": 4, "window": 32, "device": "cpu", "state_weight": 0.0}


def test_a_student_follows_the_teachers_mixture():
    """With the teacher's probabilities alone to learn, it comes nearer to them than one that has none."""
    teacher = excited(WokenStack(Stack(config()))).stack
    text = TEXT * 3

    def divergence(**weights: Any) -> float:
        student = fresh_student(config((12,), ngrams=NGrams((1, 2), 64, 8)), 1)
        trained = distill(teacher, text, student, woken=WOKEN, learning_rate=0.02, **TAUGHT, **weights)
        given = foretell([("text", strip(text))], folder / "own", WOKEN.settings)
        windows = Windows(given, [1.0], 4, 2, 64)
        both = [WokenStack(each).eval() for each in (teacher, trained)]
        states = [net.start(2) for net in both]
        total = 0.0
        with torch.no_grad():
            for _ in range(20):
                window = windows.next()
                outputs = [net(window, state) for net, state in zip(both, states, strict=True)]
                states = [output.state for output in outputs]
                wanted = torch.sigmoid(outputs[0].odds)
                total += float((code_nats(outputs[1].odds, window, wanted)).sum())
        return total

    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        taught = divergence(own_weight=0.0, output_weight=1.0)
        alone = divergence(own_weight=1.0, output_weight=0.0)
    assert taught < alone


def test_a_woken_distillation_goes_on_as_if_it_had_not_stopped(tmp_path: Path):
    teacher = excited(WokenStack(Stack(config()))).stack

    def begin(name: str) -> Run:
        return start_distillation(
            teacher,
            TEXT * 2,
            fresh_student(config((12,)), 1, teacher),
            {name: value for name, value in TAUGHT.items() if name != "device"},
            device="cpu",
            resume=tmp_path / name,
            woken=WOKEN,
            foretold=tmp_path / "foretold",
        )

    check_that_it_goes_on(begin)


def test_what_a_woken_student_cannot_learn_is_refused():
    teacher, student = Stack(config()), fresh_student(config((12,)), 1)
    for wrong, message in (
        ({"state_weight": 0.1}, "state-weight 0"),
        ({"temperature": 2.0}, "temperature 1"),
    ):
        with pytest.raises(UsageError, match=message):
            distill(teacher, TEXT, student, woken=WOKEN, **{**TAUGHT, **wrong})
    with pytest.raises(UsageError, match="one round"):
        distill(teacher, TEXT, student, woken=WOKEN, rounds=2, **TAUGHT)


def test_another_way_of_waking_is_no_way_to_resume(tmp_path: Path):
    given: dict[str, Any] = {"resume": tmp_path / "checkpoint", "foretold": tmp_path / "foretold"}
    begun = start_training(TEXT, {"bytes": 60_000, **SMALL}, woken=WOKEN, **given)
    begun.run(stop=lambda: True)
    with pytest.raises(CheckpointError, match="woken"):
        start_training(TEXT, {"bytes": 60_000}, resume=given["resume"])


def test_what_no_archive_could_use_is_refused():
    with pytest.raises(UsageError, match="joint"):
        train(TEXT, bytes=1000, woken=WOKEN, **{**SMALL, "levels": (8, 8), "mode": "faithful"})
    with pytest.raises(UsageError, match="contexts"):
        WokenConfig("most")
    with pytest.raises(UsageError, match="gate"):
        WokenConfig(gate=0)
    with pytest.raises(CorpusError, match="never unsure"):
        train(bytes(20_000), bytes=1000, woken=WokenConfig("few", 1), **SMALL)
