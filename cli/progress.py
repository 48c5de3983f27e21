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

    from chunker.codec.effort import Effort

# What is done sooner needs neither a bar nor the import of rich.
LARGE_BYTES = 1 << 17
DELAY_SECONDS = 0.5
MIB = 1 << 20


def watched() -> bool:
    """Whether standard error is a terminal."""
    return sys.stderr is not None and sys.stderr.isatty()


class Progress:
    """Counts bytes; shows a bar if standard error is a terminal, the work is long, and not `quiet`.

    total: bytes, or how much work they are where this is known; None: not even how many. clock: in seconds.
    It should be the last thing to be opened and the first to be closed, so that nothing else is written while
    the bar moves.
    """

    def __init__(
        self,
        label: str,
        total: int | Effort | None,
        *,
        quiet: bool = False,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._label = shown(label)
        self._effort = _even(total) if isinstance(total, int) else total
        self._shows = watched() and not quiet
        self._clock = clock
        self._begin = clock()
        self._bar: Bar | None = None
        self._task: TaskID | None = None
        self.done = 0
        self._worked = 0.0
        if self._effort is not None and self._effort.n_bytes >= LARGE_BYTES:
            self._start()

    @property
    def seconds(self) -> float:
        """Time since the start."""
        return self._clock() - self._begin

    @property
    def seconds_left(self) -> float | None:
        """What the rest takes at the mean speed so far; None: nothing to go by."""
        return self.seconds * (1 - self.share) / self.share if self.share else None

    @property
    def share(self) -> float:
        """How much of the work is done; 0 if nobody knows."""
        return min(self._worked / self._effort.total, 1.0) if self._effort and self._effort.total else 0.0

    def advance(self, n_bytes: int, at: int | None = None) -> None:
        """Count `n_bytes` more, from `at` on; None: from where the last ones ended."""
        if self._effort is not None:
            begin = self.done if at is None else at
            self._worked += self._effort.until(begin + n_bytes) - self._effort.until(begin)
        self.done += n_bytes
        if self._bar is None and self.seconds >= DELAY_SECONDS:
            self._start()
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self.share, size=self._size(), left=self._left())

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
            TextColumn,
            TimeElapsedColumn,
        )
        from rich.progress import Progress as RichProgress

        self._bar = RichProgress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[size]}", style="progress.download", markup=False),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}", style="progress.remaining", markup=False),
            console=Console(stderr=True),
            transient=True,
        )
        total = None if self._effort is None else 1.0
        self._task = self._bar.add_task(self._label, total=total, size=self._size(), left=self._left())
        self._bar.update(self._task, completed=self.share)
        self._bar.start()

    def _size(self) -> str:
        """Bytes done and in all, as the bar shows them."""
        total = "?" if self._effort is None else f"{self._effort.n_bytes / MIB:.1f}"
        return f"{self.done / MIB:.1f}/{total} MiB"

    def _left(self) -> str:
        """The time left, as the bar shows it."""
        seconds = self.seconds_left
        return "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))


def _even(n_bytes: int) -> Effort:
    from chunker.codec.effort import Effort  # with the codec, which no other command needs

    return Effort([(n_bytes, float(n_bytes))])
