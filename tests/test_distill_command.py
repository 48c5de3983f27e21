"""`chunker distill` as a user meets it: refusals, signals, resume, the lineage, the files left."""

from __future__ import annotations

import inspect
import json
import os
import signal
import textwrap
from typing import Any

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from chunker.cli.main import chunker
from chunker.config import StackConfig
from chunker.learning.convert import to_file
from chunker.learning.stack import Stack
from chunker.learning.trainer import Trainer
from chunker.models import load_model, save_model

TEXT = inspect.getsource(textwrap)
TINY = ["--batch", "4", "--window", "16", "--piece", "100", "--precision", "float32"]
TINY += ["--validations", "4", "--patience", "0", "--threads", "1", "--device", "cpu"]
BUDGET = ["--bytes", str(20 * 64)]

# click 8.1 mixes the two streams unless told not to, later versions never do.
APART: dict[str, Any] = (
    {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
)


def call(*arguments):
    return CliRunner(**APART).invoke(chunker, [str(a) for a in arguments])


@pytest.fixture
def corpus(tmp_path):
    path = tmp_path / "corpus.txt"
    path.write_text(TEXT)
    return path


def untrained(path, levels=(8, 6), mode="joint", seed=0):
    torch.manual_seed(seed)
    config = StackConfig(levels=levels, mode=mode)
    save_model(path, to_file(Stack(config).state_dict()), config, {})
    return path


@pytest.fixture
def teacher(tmp_path):
    return untrained(tmp_path / "teacher")


def distill(teacher, corpus, student, *more, budget=BUDGET):
    return call("distill", teacher, corpus, "-o", student, *TINY, *budget, *more)


def one_line(result):
    lines = [line for line in result.stderr.splitlines() if line.startswith("chunker")]
    assert len(lines) == 1, result.stderr
    assert "Traceback" not in result.stderr
    return lines[0]


@pytest.fixture
def stop_after(monkeypatch):
    """Send this process a signal in the middle of the n-th step of all phases, as `kill` or Ctrl-C would."""

    def arm(steps, number):
        real, done = Trainer.step, [0]

        def step(self):
            real(self)
            done[0] += 1
            if done[0] == steps:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(Trainer, "step", step)

    return arm


def test_a_student_a_log_and_nothing_else_is_left(teacher, corpus, tmp_path):
    student = tmp_path / "out" / "s.safetensors"
    student.parent.mkdir()
    result = distill(teacher, corpus, student)
    assert result.exit_code == 0, result.stderr
    assert "what level 0 expected" in result.stderr
    assert sorted(os.listdir(student.parent)) == ["s.safetensors", "s.safetensors.jsonl"]
    log = [json.loads(line) for line in (tmp_path / "out" / "s.safetensors.jsonl").read_text().splitlines()]
    assert log[-1]["bytes"] == 20 * 64
    taught, learnt = load_model(teacher), load_model(student)
    assert learnt.config.levels == (8,)
    summary = learnt.summary
    assert summary["teacher"] == taught.fingerprint.hex()
    assert summary["teacher_name"] == "teacher"
    assert summary["distillation"]["output_weight"] == 1.0
    assert summary["bytes"] == 20 * 64
    assert summary["skill"]["old_before"] is None  # the untrained teacher expects nothing
    assert summary["skill"]["new_after"] > 0
    assert summary["validation_bits_per_byte"] < 8
    assert str(tmp_path) not in json.dumps(summary)


def test_models_shows_the_lineage(teacher, corpus, tmp_path):
    student = tmp_path / "student"
    distill(teacher, corpus, student)
    fingerprint = load_model(teacher).fingerprint.hex()
    shown = call("models", student, teacher).stdout
    assert f"teacher {fingerprint[:16]}" in shown
    document = json.loads(call("models", student, teacher, "--json").stdout)
    assert [model["teacher"] for model in document["models"]] == [fingerprint, None]
    assert "teacher" not in call("models", "text").stdout


def test_the_quantized_student_keeps_fingerprint_and_lineage(teacher, corpus, tmp_path):
    student, integers = tmp_path / "student", tmp_path / "integers"
    distill(teacher, corpus, student)
    assert call("quantize", student, "-o", integers).exit_code == 0
    one, other = load_model(student), load_model(integers)
    assert one.fingerprint == other.fingerprint
    assert one.summary["teacher"] == other.summary["teacher"]


@pytest.mark.parametrize(
    ("number", "code", "more"),
    [
        (signal.SIGINT, 130, []),
        (signal.SIGTERM, 143, ["--student", "fresh", "--levels", "5", "--cell", "lstm"]),
    ],
)
def test_stopped_and_resumed_gives_the_same_student(
    teacher, corpus, tmp_path, stop_after, number, code, more
):
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert distill(teacher, corpus, whole, *more).exit_code == 0
    stop_after(9, number)
    result = distill(teacher, corpus, cut, *more)
    assert result.exit_code == code
    assert "go on with --resume" in result.stderr
    result = call("distill", teacher, corpus, "-o", cut, "--resume")
    assert result.exit_code == 0, result.stderr
    assert not (tmp_path / "cut.checkpoint").exists()
    assert load_model(cut).fingerprint == load_model(whole).fingerprint
    assert load_model(cut).summary["skill"] == load_model(whole).summary["skill"]


def test_rounds_resume_between_phases(teacher, corpus, tmp_path, stop_after, monkeypatch):
    monkeypatch.setattr("chunker.learning.rounds._GAIN", -100.0)
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    rounds = ["--rounds", "2", "--learning-rate", "0.01"]
    assert distill(teacher, corpus, whole, *rounds).exit_code == 0
    stop_after(10, signal.SIGTERM)
    assert distill(teacher, corpus, cut, *rounds).exit_code == 143
    result = call("distill", teacher, corpus, "-o", cut, "--resume")
    assert result.exit_code == 0, result.stderr
    summary = load_model(cut).summary
    assert load_model(cut).fingerprint == load_model(whole).fingerprint
    assert len(summary["rounds"]) == 2
    first, second = summary["rounds"]
    assert first.keys() == {"student", "retrained", "rates_before", "passed_up_before", "passed_up_after"}
    assert "retrained" not in second
    log = [json.loads(line)["bytes"] for line in (tmp_path / "cut.jsonl").read_text().splitlines()]
    assert log == sorted(log)


def test_resuming_with_other_settings_is_refused(teacher, corpus, tmp_path, stop_after):
    stop_after(3, signal.SIGTERM)
    distill(teacher, corpus, tmp_path / "s")
    other = untrained(tmp_path / "other", seed=1)
    result = call("distill", other, corpus, "-o", tmp_path / "s", "--resume")
    assert "teacher is not the one" in one_line(result)
    result = call("distill", teacher, corpus, "-o", tmp_path / "s", "--resume", "--temperature", "3")
    assert "temperature was 1.0 so far" in one_line(result)


def test_the_built_in_model_is_a_teacher(corpus, tmp_path):
    result = distill("text", corpus, tmp_path / "s", "--student", "fresh", "--levels", "4")
    assert result.exit_code == 0, result.stderr
    student, teacher = load_model(tmp_path / "s"), load_model("text")
    assert student.summary["teacher_name"] == "text"
    assert student.summary["teacher"] == teacher.fingerprint.hex()
    assert student.summary["skill"]["recovered"] is None
    assert student.config.ngrams == teacher.config.ngrams


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--levels", "9"], "levels may name 8 at most"),
        (["--levels", "5,4"], "which only --student fresh can have"),
        (["--student", "nothing"], "no built-in model 'nothing'"),
        (["--cell", "rnn"], "--cell goes with --student fresh"),
        (["--student", "fresh", "--levels", "5", "--rounds", "2"], "level 0"),
        (["--temperature", "0"], "temperature"),
        (["--own-weight", "0", "--state-weight", "0", "--output-weight", "0"], "weights"),
        (["--ramp", "2"], "ramp"),
        (["--rounds", "0"], "at least one round"),
        (["--device", "abacus"], "--device auto"),
    ],
)
def test_options_that_make_no_sense_are_one_line(teacher, corpus, tmp_path, options, message):
    result = distill(teacher, corpus, tmp_path / "s", *options)
    assert result.exit_code == 1
    assert message in one_line(result)
    assert sorted(os.listdir(tmp_path)) == ["corpus.txt", "teacher"]


def test_a_student_goes_on_from_a_model_and_narrower(teacher, corpus, tmp_path):
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert distill(teacher, corpus, first, "--levels", "6").exit_code == 0
    assert distill(teacher, corpus, second, "--student", first).exit_code == 0
    assert distill(teacher, corpus, third, "--student", second, "--levels", "4").exit_code == 0
    models = [load_model(path) for path in (first, second, third)]
    assert [model.config.levels for model in models] == [(6,), (6,), (4,)]
    bits = [model.summary["validation_bits_per_byte"] for model in models[:2]]
    assert bits[1] < bits[0]
    assert {model.summary["teacher"] for model in models} == {load_model(teacher).fingerprint.hex()}


def test_a_student_of_archives(teacher, corpus, tmp_path):
    student, tiny = tmp_path / "s", [option for option in TINY if option not in ("--piece", "100")]
    result = call(
        "distill", teacher, corpus, "-o", student, "--woken", "--wake-contexts", "few", "--student", "fresh",
        *tiny, *BUDGET,
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    assert (tmp_path / "s.foretold" / "foretold.json").exists()
    summary = load_model(student).summary
    assert summary["teacher"] == load_model(teacher).fingerprint.hex()
    assert summary["woken"] == {"contexts": "few", "gate": 1200}
    assert summary["distillation"]["state_weight"] == 0


def test_a_missing_teacher_is_named(corpus, tmp_path):
    assert "no-such-model" in one_line(distill("no-such-model", corpus, tmp_path / "s"))


def test_without_torch_the_extra_is_named(teacher, corpus, tmp_path, monkeypatch):
    monkeypatch.setattr("chunker.extras.find_spec", lambda name: None)
    assert 'pip install ".[train]"' in one_line(distill(teacher, corpus, tmp_path / "s"))
