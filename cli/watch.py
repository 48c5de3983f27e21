"""Progress of a training run, on standard error."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from chunker.learning.meter import LogPoint

PLAIN_SECONDS = 30.0  # at least so long between two lines where standard error is no terminal


class Watch:
    """A bar with the latest figures on a terminal, a line now and then elsewhere, nothing if `quiet`."""

    def __init__(self, *, quiet: bool = False) -> None:
        self._quiet = quiet
        self._terminal = sys.stderr is not None and sys.stderr.isatty()
        self._bar: Progress | None = None
        self._task: TaskID | None = None
        self._validation = ""
        self._printed = 0.0  # seconds of training

    def start(self) -> None:
        """Draw the bar."""
        if self._terminal and not self._quiet:
            self._bar = _bar()
            self._task = self._bar.add_task("", total=1.0, figures="")
            self._bar.start()

    def advance(self, share: float) -> None:
        """The share 0 to 1 of the budget is used."""
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=share)

    def show(self, point: LogPoint) -> None:
        """New figures."""
        if point.validation_bits_per_byte is not None:
            self._validation = f"validation {point.validation_bits_per_byte:.3f}"
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, figures=figures(point, self._validation))
        elif not self._quiet and (not self._printed or point.seconds - self._printed >= PLAIN_SECONDS):
            self._printed = point.seconds
            text = figures(point, self._validation)
            click.echo(f"{point.bytes:,} bytes, {point.seconds:.0f} s: {text}", err=True)

    def say(self, text: str) -> None:
        """A line of its own."""
        if self._quiet:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            click.echo(text, err=True)

    def close(self) -> None:
        """Leave the terminal as it was."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


class Foretelling:
    """Tells now and then how much of a corpus the contexts have read: called with the bytes,
    and with those in all."""

    def __init__(self) -> None:
        self._due = time.monotonic() + PLAIN_SECONDS

    def __call__(self, done: int, total: int) -> None:
        if time.monotonic() >= self._due:
            self._due = time.monotonic() + PLAIN_SECONDS
            click.echo(f"the contexts have read {done:,} of {total:,} bytes", err=True)


def figures(point: LogPoint, validation: str) -> str:
    """`2.345 bits/byte, validation 2.400, rates 1.000 0.250, 81,000 bytes/s`."""
    parts = [f"{point.bits_per_byte:.3f} bits/byte", validation]
    if len(point.rates) > 1:
        parts.append("rates " + " ".join(f"{rate:.3f}" for rate in point.rates))
    parts.append(f"{point.bytes_per_second:,.0f} bytes/s")
    return ", ".join(filter(None, parts))


def _bar() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        BarColumn(bar_width=20),
        TextColumn("{task.percentage:>3.0f}%"),
        TextColumn("{task.fields[figures]}", markup=False),
        TimeRemainingColumn(),
        TextColumn("left"),
        console=Console(stderr=True),
    )
