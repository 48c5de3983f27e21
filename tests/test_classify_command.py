"""chunker classify as a user meets it."""

from __future__ import annotations

import json
import random

import pytest
from cli_support import call

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from chunker.cli.classify import classify

SMALL = ["--levels", "12,8", "--steps", "30", "--head-steps", "40"]


def rows(count, seed):
    draw = random.Random(seed)
    found = []
    for _ in range(count):
        label = draw.choice(["left", "right"])
        parts = ["ka", "to", "mi"] if label == "left" else ["ta", "ko", "nu"]
        found.append(f"{label}\t{''.join(draw.choices(parts, k=draw.randint(3, 6)))}\n")
    return "".join(found)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("classify")
    (folder / "train.tsv").write_text(rows(60, 0))
    result = call(classify, "fit", str(folder / "train.tsv"), "-o", str(folder / "model"), *SMALL, "--json")
    document = json.loads(result.stdout)
    assert document["classes"] == ["left", "right"]
    assert document["cases"] == 60
    assert 0 < document["event_share"] <= 1
    return folder / "model"


def test_evaluate(model, tmp_path):
    (tmp_path / "test.tsv").write_text(rows(40, 1))
    document = json.loads(call(classify, "evaluate", str(model), str(tmp_path / "test.tsv"), "--json").stdout)
    assert {"accuracy", "macro_f1", "confusion", "event_share"} <= set(document)
    assert document["accuracy"] >= 0.9
    confusion = document["confusion"]
    assert document["accuracy"] == (confusion[0][0] + confusion[1][1]) / 40
    assert "accuracy" in call(classify, "evaluate", str(model), str(tmp_path / "test.tsv")).stdout


def test_a_class_that_the_model_does_not_know_counts_as_wrong(model, tmp_path):
    (tmp_path / "test.tsv").write_text("left\tkatomika\nmiddle\tkatomika\n")
    document = json.loads(call(classify, "evaluate", str(model), str(tmp_path / "test.tsv"), "--json").stdout)
    assert document["accuracy"] == 0.5
    assert document["classes"] == ["left", "middle", "right"]
    assert document["macro_f1"] == pytest.approx((2 / 3 + 0) / 2, abs=1e-5)


def test_predict(model, tmp_path):
    (tmp_path / "a").write_text("katomikato")
    (tmp_path / "b").write_text("takonutako")
    result = call(classify, "predict", str(model), str(tmp_path / "a"), str(tmp_path / "b"))
    assert [line.split("\t")[1] for line in result.stdout.splitlines()] == ["left", "right"]
    (tmp_path / "both").write_text("katomikato\ntakonutako\n")
    result = call(classify, "predict", str(model), str(tmp_path / "both"), "--lines", "--json")
    cases = json.loads(result.stdout)["cases"]
    assert [(case["line"], case["class"]) for case in cases] == [(1, "left"), (2, "right")]


def test_unlabelled_sequences_teach_the_stack(model, tmp_path):
    (tmp_path / "train.tsv").write_text(rows(60, 0))
    (tmp_path / "more").write_text("\n".join(line.split("\t")[1] for line in rows(40, 5).split("\n") if line))
    command = ("fit", str(tmp_path / "train.tsv"), "-o", str(tmp_path / "model"), *SMALL, "--json")
    document = json.loads(call(classify, *command, "--unlabelled", str(tmp_path / "more")).stdout)
    assert (document["cases"], document["unlabelled"]) == (60, 40)
    assert (tmp_path / "model").read_bytes() != model.read_bytes()


def test_unlabelled_sequences_of_another_kind_are_refused(tmp_path):
    (tmp_path / "train.tsv").write_text(rows(60, 0))
    (tmp_path / "more.ts").write_text("@data\n1,2,3:a\n")
    command = ("fit", str(tmp_path / "train.tsv"), "-o", str(tmp_path / "model"), *SMALL)
    result = call(classify, *command, "--unlabelled", str(tmp_path / "more.ts"), code=1)
    assert "same kind" in result.stderr
    assert not (tmp_path / "model").exists()


def test_a_missing_file_is_named_and_the_others_done(model, tmp_path):
    (tmp_path / "a").write_text("katomikato")
    result = call(classify, "predict", str(model), str(tmp_path / "none"), str(tmp_path / "a"), code=1)
    assert "none" in result.stderr
    assert "left" in result.stdout


def test_bad_rows_are_named_and_nothing_is_written(tmp_path):
    (tmp_path / "train.tsv").write_text("a\tx\nb\ty\nno tab here\n")
    arguments = ["fit", str(tmp_path / "train.tsv"), "-o", str(tmp_path / "model")]
    result = call(classify, *arguments, code=1)
    assert "line 3" in result.stderr
    assert not (tmp_path / "model").exists()


@pytest.mark.parametrize(
    ("more", "code"),
    [
        (["--levels", "a"], 2),
        (["--levels", "0"], 1),
        (["-o", "/nowhere/model"], 1),
        (["--noise", "nan"], 1),
        (["--head", "none", "--no-contexts"], 1),
        ([], 1),
    ],
)
def test_what_cannot_be_used_is_refused_before_training(model, tmp_path, more, code):
    (tmp_path / "train.tsv").write_text("a\tx\nb\ty\n")
    output = [] if "-o" in more else ["-o", str(tmp_path / "new" if more else model)]
    result = call(classify, "fit", str(tmp_path / "train.tsv"), *output, *more, code=code)
    assert len(result.stderr.splitlines()) == 1


@pytest.mark.parametrize("option", [[], ["--unlabelled"]])
def test_what_is_read_is_not_replaced_by_the_classifier(tmp_path, option):
    (tmp_path / "train.tsv").write_text(rows(10, 0))
    (tmp_path / "more").write_text("katomi\n")
    read = str(tmp_path / ("more" if option else "train.tsv"))
    more = [*option, read] if option else []
    result = call(classify, "fit", str(tmp_path / "train.tsv"), "-f", "-o", read, *more, code=1)
    assert "is to be read" in result.stderr
    assert (tmp_path / "more").read_text() == "katomi\n"
    assert (tmp_path / "train.tsv").read_text() == rows(10, 0)


def test_other_files_are_no_classifiers(tmp_path):
    (tmp_path / "bad").write_text("hello, this is text")
    result = call(classify, "predict", str(tmp_path / "bad"), str(tmp_path / "bad"), code=1)
    assert "no classifier" in result.stderr
