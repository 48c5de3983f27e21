"""A progress bar on standard error, for whoever sits in front of it and has to wait."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING

from chunker.cli.files import shown

if TYPE_CHECKING:
    from rich.progress import Progress as Bar
    from rich.progress import TaskID

# What is done sooner needs neither a bar nor the import of rich.
LARGE_BYTES = 1 << 17
DELAY_SECONDS = 0.5


def watched() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


class Progress:
    """Counts bytes; shows a bar if standard error is a terminal, the work is long, and not `quiet`.

    total: bytes, None if it is not known. clock: in seconds. It should be the last thing to be opened and the
    first to be closed, so that nothing else is written while the bar moves.
    """

    def __init__(
        self,
        label: str,
        total: int | None,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._label = shown(label)
        self._total = total
        self._shows = watched() and not quiet
        self._clock = clock
        self._begin = clock()
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self.done = 0
        if total is not None and total >= LARGE_BYTES:
            self._start()

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return self._clock() - self._begin

    @property
    def seconds_left(self) -> float | None:
        """What the rest takes at the mean speed so far; None: nothing to go by.

        The mean, because the speed of the last seconds is that of a few blocks, and one kind of block takes a
        hundred times as long as another.
        """
        if self._total is None or not self.done:
            return None
        return self.seconds * max(self._total - self.done, 0) / self.done

    def advance(self, n_bytes: int) -> None:
        """Count `n_bytes` more."""
        self.done += n_bytes
        if self._bar is None and self.seconds >= DELAY_SECONDS:
            self._start()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done, left=self._left())

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.stop()

    def _start(self) -> None:
        if not self._shows:
            return
        from rich.console import Console
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", style="progress.remaining", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(
            self._label, total=self._total, completed=self.done, left=self._left()
        )
        self._bar.start()

    def _left(self) -> str:
        """The time left, as the bar shows it."""
        seconds = self.seconds_left
        return "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))
