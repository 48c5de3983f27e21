"""What an experiment gives: one row for each net and seed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

NETS = ("history-compressor", "rnn", "lstm", "lstm-chrono")


@dataclass(frozen=True)
class Row:
    """One net's run with one seed.

    net: its name. solved: by the experiment's criterion, within its budget. sequences: that it had been given
    when it solved the task, or in all. seconds: that it took, without the test. more: what else the
    experiment measures, by name, ready for JSON. asked: False for a row that solves nothing and fails at
    nothing: a coder to compare with, or a net that was not run.
    """

    net: str
    seed: int
    solved: bool
    sequences: int
    seconds: float
    more: dict[str, Any] = field(default_factory=dict)
    asked: bool = True

    @property
    def outcome(self) -> str:
        """In a word or two."""
        if self.asked:
            return "solved" if self.solved else "failed"
        return "not run" if "note" in self.more else "to compare with"

    def to_json(self) -> dict[str, Any]:
        return {
            "net": self.net,
            "seed": self.seed,
            "solved": self.solved,
            "sequences": self.sequences,
            "seconds": round(self.seconds, 2),
            **self.more,
        }
