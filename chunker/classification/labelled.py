"""Labelled sequences in files: label, tab, sequence in each line; or one folder per class, one file per case.

Needs neither torch nor scikit-learn.
"""

from __future__ import annotations

import os
from pathlib import Path

from chunker.errors import CorpusError


def read_labelled(path: str | os.PathLike[str]) -> tuple[list[bytes], list[str]]:
    """Sequences and labels of a file of lines, or of a folder of folders.

    Raises
    ------
    CorpusError: a row has no tab, no label or no sequence (its line number is named); there is nothing at all.
    OSError: it cannot be read.
    """
    return _folder(Path(path)) if os.path.isdir(path) else _lines(Path(path))


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
