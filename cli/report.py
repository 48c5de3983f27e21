"""What the commands print: one line for each file, tables, or one JSON document with units in its keys."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import click

from chunker.cli.files import Warned, shown
from chunker.errors import ChunkerError


@dataclass(frozen=True)
class Figures:
    """The sizes of an original and of its archive, and what follows from them."""

    original: int
    archive: int

    @property
    def ratio(self) -> float | None:
        """Original size over archive size: 4 means that a quarter remains. None if the archive is empty."""
        return self.original / self.archive if self.archive else None

    @property
    def bits_per_byte(self) -> float | None:
        """Bits of the archive for each byte of the original; None for an empty original."""
        return 8 * self.archive / self.original if self.original else None

    def to_json(self, *, unpacking: bool = False) -> dict[str, Any]:
        """bytes_in is the original's size and bytes_out the archive's; the other way round when unpacking."""
        first, second = (self.archive, self.original) if unpacking else (self.original, self.archive)
        return {
            "bytes_in": first,
            "bytes_out": second,
            "ratio": rounded(self.ratio, 4),
            "bits_per_byte": rounded(self.bits_per_byte, 4),
        }


@dataclass(frozen=True)
class Outcome:
    """One file that was compressed, decompressed or tested.

    target: where the result is, None if nothing was written. model: its name, None if the archive needs none.
    warning: what is to be said although the result is there. verified: whether the archive that was written
    was decoded again.
    """

    name: str
    figures: Figures
    seconds: float
    target: str | None = None
    model: str | None = None
    unpacking: bool = False
    warning: Warned | None = None
    verified: bool = False

    def to_json(self) -> dict[str, Any]:
        """For --json."""
        return {
            "name": self.name,
            "target": self.target,
            **self.figures.to_json(unpacking=self.unpacking),
            "seconds": round(self.seconds, 3),
            "model": self.model,
            "verified": self.verified,
        }

    def line(self) -> str:
        """For people: `name: 5,000 -> 1,250 bytes, ratio 4.000, 2.000 bits/byte, model text`."""
        sizes = [self.figures.original, self.figures.archive]
        first, second = reversed(sizes) if self.unpacking else sizes
        parts = [
            f"{shown(self.name)}: {first:,} -> {second:,} bytes",
            f"ratio {number(self.figures.ratio, 3)}",
            f"{number(self.figures.bits_per_byte, 3)} bits/byte",
            "no model" if self.model is None else f"model {shown(self.model)}",
        ]
        return ", ".join([*parts, *["verified"] * self.verified])


def rounded(value: float | None, digits: int) -> float | None:
    """`round` that lets None through."""
    return None if value is None else round(value, digits)


def number(value: float | None, digits: int) -> str:
    """A figure with fixed digits, "-" for None."""
    return "-" if value is None else f"{value:,.{digits}f}"


def print_json(document: dict[str, Any] | list[dict[str, Any]]) -> None:
    """One JSON document on standard output.

    Raises
    ------
    ChunkerError: it holds a number that JSON cannot hold (out of a model's summary, say).
    """
    try:
        text = json.dumps(document, indent=2, allow_nan=False)
    except ValueError as error:
        raise ChunkerError(
            "a figure is infinite or no number, so there is no JSON; leave out --json"
        ) from error
    click.echo(text)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None) -> None:
    """A table on standard output; columns whose name begins with "<" are aligned left, others right.

    On a terminal rich draws it; elsewhere it is plain text of any width, for grep and awk.
    """
    if sys.stdout is not None and sys.stdout.isatty():
        _print_rich(columns, rows, title)
        return
    names = [column.lstrip("<") for column in columns]
    widths = [max(map(len, cells)) for cells in zip(names, *rows, strict=True)]
    if title is not None:
        click.echo(title)
    for cells in (names, *rows):
        padded = (
            cell.ljust(width) if column.startswith("<") else cell.rjust(width)
            for column, cell, width in zip(columns, cells, widths, strict=True)
        )
        click.echo("  ".join(padded).rstrip())


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str | None) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=Text(title) if title else None, title_justify="left", box=None, pad_edge=False)
    for column in columns:
        if column.startswith("<"):  # where the terminal is too narrow, names are folded and numbers are not
            table.add_column(Text(column[1:]), overflow="fold")
        else:
            table.add_column(Text(column), justify="right", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, row))
    Console().print(table)
