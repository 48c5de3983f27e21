"""Labelled sequences in files: label, tab, sequence in each line; one folder per class, one file per case; or
vectors in the .ts format of the UCR and UEA archives.

Needs neither torch nor scikit-learn.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chunker.errors import CorpusError

Sequences = list[bytes] | list[npt.NDArray[np.float64]]


def read_labelled(path: str | os.PathLike[str]) -> tuple[Sequences, list[str]]:
    """Sequences and labels of a file of lines, of a folder of folders, or of a file .ts or .ts.gz.

    Sequences are bytes, of .ts files arrays (T, D).

    Raises
    ------
    CorpusError: a row has no tab, no label or no sequence (its line number is named); there is nothing at
    all. OSError: it cannot be read.
    """
    if os.path.isdir(path):
        return _folder(Path(path))
    return read_vectors(path) if is_vectors(path) else _lines(Path(path))


def is_vectors(path: str | os.PathLike[str]) -> bool:
    """Whether the file's name says that vectors are in it."""
    return os.fspath(path).endswith((".ts", ".ts.gz"))


def read_vectors(path: str | os.PathLike[str]) -> tuple[list[npt.NDArray[np.float64]], list[str]]:
    """Cases (T, D) and labels of a .ts file: after @data channel:channel:...:label, values parted by commas.

    Raises
    ------
    CorpusError: a row without values, label, or with channels that differ (its line number is named).
    OSError: it cannot be read.
    """
    cases: list[npt.NDArray[np.float64]] = []
    labels: list[str] = []
    started = False
    for number, line in enumerate(_text(Path(path)).splitlines(), 1):
        line = line.strip()
        if not started:
            started = line.lower() == "@data"
            continue
        if not line or line.startswith("#"):
            continue
        try:
            case, label = _case(line)
        except ValueError as error:
            raise CorpusError(f"line {number} of {path}: {error}; write channel:channel:label") from error
        if cases and case.shape[1] != cases[0].shape[1]:
            raise CorpusError(
                f"line {number} of {path} has {case.shape[1]} channels, not {cases[0].shape[1]}; correct it"
            )
        cases.append(case)
        labels.append(label)
    if not cases:
        raise CorpusError(
            f"{path} holds no case after a line @data; write channel:channel:label in each line"
        )
    return cases, labels


def write_vectors(
    path: str | os.PathLike[str], cases: Sequence[npt.NDArray[Any]], labels: Sequence[object]
) -> None:
    """Write cases (T, D) as a .ts file, one a line, from which `read_vectors` reads the same numbers.

    Raises
    ------
    CorpusError: a case that cannot be read again: no values, not all finite, a label with a colon or none at
        all, not one label a case.
    """
    if len(cases) != len(labels):
        raise CorpusError(f"{len(cases)} cases but {len(labels)} labels; give one label a case")
    rows: list[str] = []
    for number, (case, label) in enumerate(zip(cases, labels, strict=True), 1):
        values = np.asarray(case, dtype=np.float64)
        if values.ndim != 2 or not values.size or not np.isfinite(values).all():
            raise CorpusError(f"case {number} is no array (T, D) of finite numbers; correct it")
        name = str(label)
        if not name.strip() or any(char in name for char in ":\r\n"):
            raise CorpusError(
                f"label {name!r} of case {number} is empty or has a colon in it; choose another"
            )
        rows.append(":".join(",".join(map(repr, channel)) for channel in values.T.tolist()) + f":{name}\n")
    Path(path).write_text("@data\n" + "".join(rows), encoding="utf-8")


def _text(path: Path) -> str:
    raw = path.read_bytes()
    try:
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        return raw.decode("utf-8")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} is damaged ({error}); fetch it anew") from error


def _case(line: str) -> tuple[npt.NDArray[np.float64], str]:
    """(T, D) and label of one row. Raises ValueError."""
    *channels, label = (part.strip() for part in line.split(":"))
    if not channels or not label:
        raise ValueError("there are no values, or no label")
    if any("(" in channel for channel in channels):
        raise ValueError("values with times are not read")
    rows: list[Any] = [[float(value) for value in channel.split(",")] for channel in channels]
    if len({len(row) for row in rows}) > 1:
        raise ValueError("channels are of unequal length")
    case = np.array(rows, dtype=np.float64).T
    if not np.isfinite(case).all():
        raise ValueError("a value is missing or infinite")
    return case, label


def _lines(path: Path) -> tuple[list[bytes], list[str]]:
    sequences: list[bytes] = []
    labels: list[str] = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        line = line.removesuffix(b"\r")
        if not line:
            continue
        label, tab, sequence = line.partition(b"\t")
        if not tab:
            raise CorpusError(f"line {number} of {path} has no tab; write label, tab, sequence")
        if not label:
            raise CorpusError(f"line {number} of {path} has no label; write label, tab, sequence")
        if not sequence:
            raise CorpusError(f"line {number} of {path} has no sequence; write label, tab, sequence")
        try:
            labels.append(label.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise CorpusError(f"line {number} of {path}: the label is no UTF-8; write it anew") from error
        sequences.append(sequence)
    if not sequences:
        raise CorpusError(f"{path} holds no labelled sequence; write label, tab, sequence in each line")
    return sequences, labels


def _folder(path: Path) -> tuple[list[bytes], list[str]]:
    sequences: list[bytes] = []
    labels: list[str] = []
    for folder in sorted(entry for entry in path.iterdir() if entry.is_dir()):
        for case in sorted(entry for entry in folder.iterdir() if entry.is_file()):
            sequences.append(case.read_bytes())
            labels.append(folder.name)
    if not sequences:
        raise CorpusError(f"{path} holds no folder with files in it; make one folder per class")
    return sequences, labels
