"""Labelled sequences in files: label, tab, sequence in each line; one folder per class, one file per case; or
vectors in the .ts format of the UCR and UEA archives.

Needs neither torch nor scikit-learn.
"""

from __future__ import annotations

import codecs
import gzip
import math
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

    Sequences are bytes, of .ts files arrays (T, D). Hidden files and folders, whose names begin with a dot,
    are not read, nor is a byte-order mark.

    Raises
    ------
    CorpusError: a row has no tab, no label or no sequence (its line number is named); a folder has no file, a
    .ts file no classes; there is nothing at all. OSError: it cannot be read.
    """
    if os.path.isdir(path):
        return _folder(Path(path))
    if not is_vectors(path):
        return _lines(Path(path))
    cases, labels = read_vectors(path)
    if labels is None:
        raise CorpusError(
            f"{path} has no classes (@classLabel false, or @targetLabel true); name a file that has them"
        )
    return cases, labels


def is_vectors(path: str | os.PathLike[str]) -> bool:
    """Whether the file's name says that vectors are in it."""
    return os.fspath(path).endswith((".ts", ".ts.gz"))


class _Header:
    """What the lines before @data say of the rows. labels: those that @classLabel names, if it names any."""

    def __init__(self) -> None:
        self._says: dict[str, bool] = {}
        self.labels: set[str | float] = set()

    @property
    def ends_in(self) -> str:
        """What rows end in: a "label", a "target" (a number to be predicted, no class), or a "channel"."""
        if self._says.get("@targetlabel"):
            return "target"
        return "label" if self._says.get("@classlabel", not self._says) else "channel"

    def read(self, line: str) -> None:
        """Take in a line. Raises ValueError."""
        key, *words = line.split()
        key = key.lower()
        if key not in ("@classlabel", "@targetlabel"):
            return
        if not words or words[0].lower() not in ("true", "false"):
            raise ValueError(f"{key} is neither true nor false")
        self._says[key] = words[0].lower() == "true"
        if key == "@classlabel":
            self.labels = {_comparable(word) for word in words[1:]}


def _comparable(label: str) -> str | float:
    """Labels that differ in case, or as numbers are written, are one: headers are not that exact."""
    try:
        number = float(label)
    except ValueError:
        return label.casefold()
    return label.casefold() if math.isnan(number) else number


def read_vectors(
    path: str | os.PathLike[str],
) -> tuple[list[npt.NDArray[np.float64]], list[str] | None]:
    """Cases (T, D) and labels of a .ts file: after @data channel:channel:...:label, values parted by commas.

    Labels are None if the header says that rows have none: @classLabel false, or @targetLabel true, after
    which rows end in a number to be predicted, which is left out.

    Raises
    ------
    CorpusError: a row without values, without label, with a label that the header does not name, or with
    channels that differ (its line number is named). OSError: it cannot be read.
    """
    cases: list[npt.NDArray[np.float64]] = []
    labels: list[str] = []
    header, started = _Header(), False
    for number, line in enumerate(_text(Path(path)).split("\n"), 1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            if not started:
                started = line.lower() == "@data"
                header.read(line)
                continue
            case, label = _case(line, header)
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
    return cases, labels if header.ends_in == "label" else None


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
        return raw.decode("utf-8-sig")
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise CorpusError(f"{path} is damaged ({error}); fetch it anew") from error


def _case(line: str, header: _Header) -> tuple[npt.NDArray[np.float64], str]:
    """(T, D) and label of one row, "" if the header says that there is none. Raises ValueError."""
    channels, label = [part.strip() for part in line.split(":")], ""
    if header.ends_in != "channel":
        label = channels.pop()
        if not channels or not label:
            raise ValueError("there are no values, or no label")
        if header.ends_in == "label" and header.labels and _comparable(label) not in header.labels:
            raise ValueError(f"{label!r} is none of the labels that @classLabel names")
    if any("(" in channel for channel in channels):
        raise ValueError("values with times are not read")
    rows: list[Any] = [[float(value) for value in channel.split(",")] for channel in channels]
    if len({len(row) for row in rows}) > 1:
        raise ValueError("channels are of unequal length")
    case = np.array(rows, dtype=np.float64).T
    if not np.isfinite(case).all():
        raise ValueError("a value is missing or infinite")
    return case, label


def without_mark(text: bytes, path: str | os.PathLike[str]) -> bytes:
    """A text without the byte-order mark that some editors put before UTF-8.

    Raises
    ------
    CorpusError: it is UTF-16 or UTF-32.
    """
    if text.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_BE)):
        raise CorpusError(f"{path} is UTF-16 or UTF-32, not UTF-8; save it as UTF-8")
    return text.removeprefix(codecs.BOM_UTF8)


def _lines(path: Path) -> tuple[list[bytes], list[str]]:
    sequences: list[bytes] = []
    labels: list[str] = []
    for number, line in enumerate(without_mark(path.read_bytes(), path).split(b"\n"), 1):
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
    for folder in _seen(path):
        if not folder.is_dir():
            continue
        cases = [entry for entry in _seen(folder) if entry.is_file()]
        if not cases:
            raise CorpusError(
                f"{folder} is a class without a file in it; add one for each case, or delete it"
            )
        sequences += [case.read_bytes() for case in cases]
        labels += [folder.name] * len(cases)
    if not sequences:
        raise CorpusError(f"{path} holds no folder with files in it; make one folder per class")
    return sequences, labels


def _seen(folder: Path) -> list[Path]:
    """What is in a folder, in order, but for hidden files and folders."""
    return sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
