"""Vectors in .ts files, and the classifiers on contexts: held-out weights, text, naive Bayes."""

from __future__ import annotations

import gzip
import json

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from cli_support import call

from chunker.classification import (
    HistoryClassifier,
    NgramHead,
    RecurrentHead,
    load_classifier,
    save_classifier,
)
from chunker.classification.labelled import read_labelled, read_vectors, write_vectors
from chunker.classification.linear import hold_out, pool_weights
from chunker.classification.speech import as_other_speakers, stretch_matrix
from chunker.cli.classify import classify
from chunker.errors import CorpusError, UsageError

HEADER = "@problemName Two\n@data\n"


def two_waves(count, seed):
    """Rows of two channels, slow or fast, of unequal length."""
    random = np.random.default_rng(seed)
    rows = []
    for i in range(count):
        t = np.arange(int(random.integers(14, 22)))
        wave = np.sin(t * (0.4 + 0.8 * (i % 2))) + random.normal(size=len(t)) / 10
        rows.append(
            ":".join(",".join(f"{v:.4f}" for v in part) for part in (wave, wave**2)) + f":{'sf'[i % 2]}"
        )
    return HEADER + "\n".join(rows) + "\n"


def test_cases_are_time_first(tmp_path):
    (tmp_path / "a.ts").write_text(HEADER + "1,2,3:4,5,6:yes\n\n1.5:2:no\n")
    (tmp_path / "b.ts.gz").write_bytes(gzip.compress((tmp_path / "a.ts").read_bytes()))
    for name in ("a.ts", "b.ts.gz"):
        cases, labels = read_labelled(tmp_path / name)
        assert labels == ["yes", "no"]
        assert [np.asarray(case).tolist() for case in cases] == [[[1, 4], [2, 5], [3, 6]], [[1.5, 2]]]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("1,2", "no values"),
        ("1,2:", "no label"),
        ("1,x:2,3:a", "could not convert"),
        ("1,2:3:a", "unequal length"),
        ("1,2:a", "1 channels, not 2"),
        ("1,nan:2,3:a", "missing"),
        ("(0,1),(1,2):a", "times"),
    ],
)
def test_bad_rows_are_named(tmp_path, row, words):
    (tmp_path / "a.ts").write_text(f"{HEADER}1,2:3,4:a\n{row}\n")
    with pytest.raises(CorpusError, match=f"line 4 .*{words}"):
        read_vectors(tmp_path / "a.ts")


@pytest.mark.parametrize(
    ("header", "row", "case"),
    [
        ("@classLabel false\n", "1,2:3,4", [[1, 3], [2, 4]]),
        ("@classLabel FALSE\n@targetLabel false\n", "1,2", [[1], [2]]),
        ("@targetLabel true\n", "1,2:3,4:0.5", [[1, 3], [2, 4]]),
        ("@classLabel false\n@targetLabel true\n", "1,2:0.5", [[1], [2]]),
    ],
)
def test_files_without_classes_can_be_read_but_not_learnt_from(tmp_path, header, row, case):
    (tmp_path / "a.ts").write_text(f"{header}@data\n{row}\n")
    cases, labels = read_vectors(tmp_path / "a.ts")
    assert [np.asarray(each).tolist() for each in cases] == [case]
    assert labels is None
    with pytest.raises(CorpusError, match="no classes"):
        read_labelled(tmp_path / "a.ts")
    result = call(classify, "fit", str(tmp_path / "a.ts"), "-o", str(tmp_path / "model"), code=1)
    assert "a.ts has no classes (@classLabel false" in result.stderr


@pytest.mark.parametrize(
    "header", ["@classLabel true Yes no\n@targetLabel false\n", "@classLabel true 1.0 2"]
)
def test_labels_are_those_of_the_header(tmp_path, header):
    first = "yes" if "Yes" in header else "1"
    (tmp_path / "a.ts").write_text(f"{header}\n@data\n1,2:{first}\n")
    assert read_labelled(tmp_path / "a.ts")[1] == [first]
    (tmp_path / "a.ts").write_text(f"{header}\n@data\n1,2:{first}\n1,2:3,4\n")
    with pytest.raises(CorpusError, match=r"'3,4' is none of the labels that @classLabel names"):
        read_labelled(tmp_path / "a.ts")


def test_a_header_that_says_nothing(tmp_path):
    (tmp_path / "a.ts").write_text("@classLabel perhaps\n@data\n1,2:a\n")
    with pytest.raises(CorpusError, match=r"line 1 .*neither true nor false"):
        read_labelled(tmp_path / "a.ts")


def test_a_byte_order_mark_is_no_part_of_a_file(tmp_path):
    (tmp_path / "a.ts").write_text("@data\n1,2:a\u2028b\n", encoding="utf-8-sig")
    assert read_labelled(tmp_path / "a.ts")[1] == ["a\u2028b"]
    (tmp_path / "a.tsv").write_text("a\tx\n", encoding="utf-8-sig")
    assert read_labelled(tmp_path / "a.tsv") == ([b"x"], ["a"])
    (tmp_path / "a.tsv").write_text("a\tx\n", encoding="utf-16")
    with pytest.raises(CorpusError, match="save it as UTF-8"):
        read_labelled(tmp_path / "a.tsv")


def test_numbers_that_no_net_can_read_are_one_line(tmp_path):
    few = ["--levels", "4", "--steps", "2", "--head-steps", "2", "-f", "-o", str(tmp_path / "model")]
    (tmp_path / "huge.ts").write_text("@data\n1,2,3:a\n1,1e300,2:b\n")
    result = call(classify, "fit", str(tmp_path / "huge.ts"), *few, code=1)
    assert "sequence 1 holds a number beyond 3.4e+38" in result.stderr
    (tmp_path / "large.ts").write_text("@data\n1,2,3:a\n1,1e38,2:b\n")
    call(classify, "fit", str(tmp_path / "large.ts"), *few)
    (tmp_path / "good.ts").write_text("@data\n1,2,3:a\n1,4,2:b\n")
    call(classify, "fit", str(tmp_path / "good.ts"), *few)
    for name in ("huge", "large"):
        result = call(classify, "predict", str(tmp_path / "model"), str(tmp_path / f"{name}.ts"), code=1)
        assert "sequence 1 holds a number" in result.stderr


def test_folders_as_classes(tmp_path):
    for name in ("cat/1.txt", "cat/.DS_Store", "dog/1.txt", ".ipynb_checkpoints/1.txt", ".DS_Store"):
        (tmp_path / "cases" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "cases" / name).write_text(name)
    assert read_labelled(tmp_path / "cases") == ([b"cat/1.txt", b"dog/1.txt"], ["cat", "dog"])
    (tmp_path / "cases" / "eel").mkdir()
    (tmp_path / "cases" / "eel" / ".gitkeep").touch()
    with pytest.raises(CorpusError, match=r"eel is a class without a file in it; add one for each case"):
        read_labelled(tmp_path / "cases")


def test_files_that_hold_no_cases(tmp_path):
    (tmp_path / "a.ts").write_text("@problemName None\n")
    with pytest.raises(CorpusError, match="no case"):
        read_vectors(tmp_path / "a.ts")
    (tmp_path / "a.ts.gz").write_bytes(gzip.compress(b"@data\n1:a\n")[:-6])
    with pytest.raises(CorpusError, match="damaged"):
        read_vectors(tmp_path / "a.ts.gz")


def test_vectors_by_command(tmp_path):
    (tmp_path / "train.ts").write_text(two_waves(40, 0))
    (tmp_path / "test.ts").write_text(two_waves(20, 1))
    model = str(tmp_path / "model")
    small = [
        "--levels",
        "12",
        "--steps",
        "20",
        "--head-steps",
        "60",
        "--deltas",
        "--noise",
        "0.1",
        "--backwards",
    ]
    call(classify, "fit", str(tmp_path / "train.ts"), "-o", model, *small)
    test = str(tmp_path / "test.ts")
    assert json.loads(call(classify, "evaluate", model, test, "--json").stdout)["accuracy"] == 1
    cases = json.loads(call(classify, "predict", model, test, "--json").stdout)["cases"]
    assert [(case["line"], case["class"]) for case in cases] == [(i + 1, "sf"[i % 2]) for i in range(20)]
    (tmp_path / "text").write_text("s\thello\n")
    result = call(classify, "evaluate", model, str(tmp_path / "text"), code=1)
    assert "is text and no vectors" in result.stderr


def test_what_is_held_out_leaves_every_class():
    labels = np.array([0] * 300 + [1] * 100 + [2] * 3)
    held = hold_out(labels, 3, np.random.default_rng(0))
    assert 40 <= held.sum() < 100
    assert not held[labels == 2].any()
    assert not hold_out(labels[:100], 1, np.random.default_rng(0)).any()  # too few to weigh anything


def test_a_classifier_that_knows_nothing_weighs_little():
    random = np.random.default_rng(0)
    labels = random.integers(0, 3, 300)
    good = 2.0 * np.eye(3)[labels] + random.normal(size=(300, 3))
    weights = pool_weights([good, random.normal(size=(300, 3))], labels)
    assert weights[0] > 1
    assert 0 <= weights[1] < 0.2 * weights[0]


def test_text_is_told_apart_without_case_and_comes_back_from_a_file(tmp_path):
    random = np.random.default_rng(0)
    parts = {"x": ["жар", "тон", "мир"], "y": ["тар", "жон", "мур"]}
    labels = random.choice(["x", "y"], 500)
    rows = ["".join(random.choice(parts[c], 4)) for c in labels]
    model = HistoryClassifier(
        (8,), steps=10, heads=[RecurrentHead(steps=40), NgramHead()], random_state=0
    ).fit(rows, labels)
    assert len(model.pool_) == 3
    assert model.score([row.upper() for row in rows], labels) > 0.9
    save_classifier(tmp_path / "model", model)
    assert np.array_equal(load_classifier(tmp_path / "model").predict_proba(rows), model.predict_proba(rows))


def test_a_stretched_spectrum_has_its_peak_elsewhere():
    at = (np.arange(200) + 0.5) / 200
    basis = np.cos(np.pi * np.outer(at, np.arange(30))) * np.where(np.arange(30) == 0, 1, np.sqrt(2))
    hertz = 700 * ((1 + 4000 / 700) ** at - 1)
    cepstra = np.exp(-(((hertz - 1000) / 200) ** 2)) @ basis / 200
    for factor in (0.8, 1.0, 1.25):
        moved = cepstra[None] @ stretch_matrix(30, factor)
        assert abs(hertz[(moved @ basis.T).argmax()] - 1000 * factor) < 40
    assert np.allclose(stretch_matrix(13, 1.0), np.eye(13), atol=1e-9)
    others = as_other_speakers([np.ones((4, 13)), np.ones((0, 13))], np.random.default_rng(0))
    assert [row.shape for row in others] == [(4, 13), (0, 13)]
    with pytest.raises(UsageError, match="stretch"):
        stretch_matrix(13, 0.0)


def test_what_is_written_is_read_again(tmp_path):
    random = np.random.default_rng(0)
    cases = [random.standard_normal((length, 3)) * 10.0**length for length in (1, 2, 9)]
    write_vectors(tmp_path / "x.ts", cases, ["a", 1, "b c"])
    found, labels = read_vectors(tmp_path / "x.ts")
    assert labels == ["a", "1", "b c"]
    assert all(np.array_equal(one, other) for one, other in zip(found, cases, strict=True))


@pytest.mark.parametrize(
    ("case", "label"),
    [
        (np.ones(3), "a"),
        (np.ones((0, 3)), "a"),
        (np.full((2, 2), np.nan), "a"),
        (np.ones((2, 2)), "a:b"),
        (np.ones((2, 2)), " "),
    ],
)
def test_what_could_not_be_read_is_not_written(tmp_path, case, label):
    with pytest.raises(CorpusError, match="case 1"):
        write_vectors(tmp_path / "x.ts", [case], [label])
    assert not (tmp_path / "x.ts").exists()
