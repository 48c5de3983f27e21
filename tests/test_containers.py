"""Sequences and labels in any container are counted by position; errors name the position."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("torch")
pytest.importorskip("sklearn")

from chunker.classification import HistoryClassifier, HistoryTranscriber, HistoryTransformer, RecurrentHead
from chunker.errors import UsageError

WORDS, LABELS = ["weg", "way", "gasse", "lane"], ["de", "en", "de", "en"]
SHUFFLED = [3, 1, 7, 5]
NUMBERS = [[1, 2, 3], [2, 3], [3, 4, 5, 6], [1]]


class Series:
    """As a Series of pandas: [] and len() go by label and row, iteration and arrays by position."""

    def __init__(self, values, index):
        self.values = np.empty(len(values), dtype=object)
        self.values[:] = values
        self.index, self.shape, self.dtype = list(index), self.values.shape, self.values.dtype

    def __getitem__(self, label):
        if label not in self.index:
            raise KeyError(label)
        return self.values[self.index.index(label)]

    def __len__(self):
        return len(self.values)

    def __iter__(self):
        return iter(self.values)

    def __array__(self, dtype=None, copy=None):
        return self.values if dtype is None else self.values.astype(dtype)


def objects(values):
    """(n,) objects, whatever their lengths."""
    return Series(values, range(len(values))).values


def small():
    return HistoryClassifier((4,), steps=0, heads=[RecurrentHead(steps=2)], random_state=0)


def pandas_series(values):
    return pytest.importorskip("pandas").Series(values, index=SHUFFLED[: len(values)])


def polars_series(values):
    return pytest.importorskip("polars").Series(values)


CONTAINERS = {
    "tuple": tuple,
    "array of objects": objects,
    "series": lambda values: Series(values, SHUFFLED[: len(values)]),
    "pandas": pandas_series,
    "polars": polars_series,
}


@pytest.mark.parametrize("container", CONTAINERS.values(), ids=CONTAINERS)
@pytest.mark.parametrize(
    "rows",
    [WORDS, [word.encode() for word in WORDS], NUMBERS, [np.array(row) / 2 for row in NUMBERS]],
    ids=["strings", "bytes", "symbols", "vectors"],
)
def test_a_container_is_read_by_position(container, rows):
    expected = small().fit(rows, LABELS, rows).predict_proba(rows)
    model = small().fit(container(rows), container(LABELS), container(rows))
    assert np.array_equal(model.predict_proba(container(rows)), expected)
    assert model.classes_.tolist() == ["de", "en"]


@pytest.mark.parametrize("library", ["pandas", "polars"])
def test_a_frame_is_a_table_of_rows(library):
    table = np.arange(20.0).reshape(4, 5) % 7
    frame = pytest.importorskip(library).DataFrame(table)
    columns = [str(name) for name in range(5)]
    frame.columns = columns
    expected = small().fit(table, LABELS, unlabelled=table).predict_proba(table)
    model = small().fit(frame, LABELS, unlabelled=frame)
    assert np.array_equal(model.predict_proba(frame), expected)
    assert HistoryTransformer((4,), steps=0, random_state=0).fit_transform(frame).shape == (4, 10)


@pytest.mark.parametrize(
    "table", [np.array([[word] for word in WORDS]), np.array([["a", 1]] * 4, dtype=object)]
)
def test_a_table_of_text_is_refused(table):
    with pytest.raises(UsageError, match="one of its columns"):
        small().fit(table, LABELS)


def test_an_array_of_strings():
    expected = small().fit(WORDS, LABELS).predict_proba(WORDS)
    assert np.array_equal(small().fit(np.array(WORDS), LABELS).predict_proba(np.array(WORDS)), expected)


@pytest.mark.parametrize("container", [*CONTAINERS.values(), list], ids=[*CONTAINERS, "list"])
@pytest.mark.parametrize("at", [0, 2])
def test_what_is_missing_is_named_by_its_position(container, at):
    rows: list[str | None] = [*WORDS]
    rows[at] = None
    with pytest.raises(UsageError, match=rf"sequence {at} is (None|nan) and no sequence"):
        small().fit(container(rows), LABELS)


@pytest.mark.parametrize("missing", [float("nan"), 5, ["a", "b"], [1, None], [[1, 2], [3]]])
def test_what_is_no_sequence_is_named_by_its_position(missing):
    rows = [*WORDS[:3], missing]
    with pytest.raises(UsageError, match="sequence 3 "):
        small().fit(rows, LABELS)


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ((word for word in WORDS), "a generator"),
        (iter(WORDS), "a list_iterator"),
        (set(WORDS), "a set"),
        (dict(zip(WORDS, LABELS, strict=True)), "a dict"),
        (None, "a NoneType"),
    ],
)
def test_what_has_no_positions_is_refused(given, named):
    with pytest.raises(UsageError, match=f"sequences must come as a list or an array, not as {named}"):
        small().fit(given, LABELS)
    with pytest.raises(UsageError, match=f"sequences must come .* {named}"):
        HistoryTransformer((4,), steps=0).fit(given)
    with pytest.raises(UsageError, match=f"sequences must come .* {named}"):
        HistoryTranscriber((4,), steps=0).fit(given, WORDS)
    with pytest.raises(UsageError, match=f"targets must come .* {named}"):
        HistoryTranscriber((4,), steps=0).fit(WORDS, given)
    with pytest.raises(UsageError, match="sequences must come"):
        small().fit(WORDS, LABELS).predict(given)
    if given is not None:
        with pytest.raises(UsageError, match=f"labels must come .* {named}"):
            small().fit(WORDS, given)
