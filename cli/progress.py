"""A progress bar on standard error, for whoever sits in front of it and has to wait."""

from __future__ import annotations

import sys
import time
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

    total: bytes, None if it is not known. It should be the last thing to be opened and the first to be
    closed, so that nothing else is written while the bar moves.
    """

    def __init__(self, label: str, total: int | None, *, quiet: bool = False) -> None:
        self._label = shown(label)
        self._total = total
        self._shows = watched() and not quiet
        self._begin = time.perf_counter()
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self.done = 0
        if total is not None and total >= LARGE_BYTES:
            self._start()

    @property
    def seconds(self) -> float:
        """Wall time since the start."""
        return time.perf_counter() - self._begin

    def advance(self, n_bytes: int) -> None:
        """Count `n_bytes` more."""
        self.done += n_bytes
        if self._bar is None and self.seconds >= DELAY_SECONDS:
            self._start()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.done)

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
            TimeRemainingColumn,
        )
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(binary_units=True),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self._task = self._bar.add_task(self._label, total=self._total, completed=self.done)
        self._bar.start()
