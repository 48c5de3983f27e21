"""Curves of training runs, from their logs: bits per byte, what each level receives, the learning rate.

A log holds a JSON document a line; `chunker.learning.meter.LogPoint` names its fields. Drawing needs
matplotlib (extra `[plot]`).
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from chunker import extras
from chunker.errors import CorpusError, UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

SUFFIXES = (".png", ".svg", ".pdf", ".html")
OVER = {"bytes": "bytes read", "seconds": "seconds of training"}
_NEEDED = ("bytes", "seconds", "bits_per_byte", "rates", "learning_rate")


@dataclass(frozen=True)
class Log:
    """The points of one run, in the order of the file. name: its path, for the legend."""

    name: str
    points: tuple[dict[str, Any], ...]

    def curve(self, over: str, key: str, level: int | None = None) -> tuple[list[float], list[float]]:
        """Where a figure was measured, and the figure; level: of a list of them, which."""
        xs, ys = [], []
        for point in self.points:
            found = point.get(key)
            if level is not None and found is not None:
                found = found[level] if level < len(found) else None
            if found is not None:
                xs.append(float(point[over]))
                ys.append(float(found))
        return xs, ys

    @property
    def levels(self) -> int:
        """How many levels the run came to have."""
        return max(len(point["rates"]) for point in self.points)


def read_log(path: str | os.PathLike[str]) -> Log:
    """The points of a log. Its last line may be cut, as while it is being written.

    Raises
    ------
    UsageError: a line is no point of a log. CorpusError: there are no points yet. OSError.
    """
    points = []
    lines = Path(path).read_text(encoding="utf-8", errors="replace").splitlines()
    for number, line in enumerate(lines, 1):
        try:
            point = json.loads(line)
            well = all(key in point for key in _NEEDED) and all(map(_is_number, point["rates"]))
            well = well and all(_is_number(point[key]) for key in _NEEDED if key != "rates")
        except (ValueError, TypeError):
            well = False
        if well:
            points.append(point)
        elif number < len(lines) or number == 1:
            raise UsageError(f"line {number} is no point of a training log; give the .jsonl beside a model")
    if not points:
        raise CorpusError("holds no point of a training run yet; wait for the first one")
    return Log(os.fspath(path).removesuffix(".jsonl"), tuple(points))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def check_picture(path: str | os.PathLike[str], suffixes: Sequence[str] = SUFFIXES) -> None:
    """Find out before hours of work whether a picture can be drawn and written.

    Raises
    ------
    MissingExtra: matplotlib is not installed. UsageError: another suffix, or there is no such folder.
    """
    extras.require("plot", "drawing")
    if Path(path).suffix.lower() not in suffixes:
        *most, last = suffixes
        raise UsageError(f"{path}: give a picture's name that ends in {', '.join(most)} or {last}")
    if not Path(path).absolute().parent.is_dir():
        raise UsageError(f"{path}: there is no such folder; make it first")


def draw_logs(logs: Sequence[Log], path: str | os.PathLike[str], over: str = "bytes") -> None:
    """Draw runs into one picture, a colour for each; over: "bytes" or "seconds".

    Bits per byte are thin as measured while training, thick on validation text, dashed under levels 0 .. l
    alone. Raises what `check_picture` raises, and OSError.
    """
    check_picture(path)
    from matplotlib.figure import Figure

    levels = max(log.levels for log in logs)
    panels = ["bits per byte", *(["share of bytes received"] if levels > 1 else []), "learning rate"]
    figure = Figure(figsize=(8, 2.6 * len(panels) + 0.6), layout="constrained")
    axes = figure.subplots(len(panels), sharex=True, squeeze=False)[:, 0]
    for run, log in enumerate(logs):
        _draw_bits(axes[0], log, over, f"C{run}")
        if levels > 1:
            for level in range(1, log.levels):
                style = _dashes(level)
                axes[1].plot(*log.curve(over, "rates", level), color=f"C{run}", linestyle=style)
        axes[-1].plot(*log.curve(over, "learning_rate"), color=f"C{run}")
    for each, label in zip(axes, panels, strict=True):
        each.set_ylabel(label)
        each.grid(alpha=0.3)
    if levels > 1:
        axes[1].set_yscale("log")
    axes[-1].set_xlabel(OVER[over])
    axes[0].set_ylim(*_range(logs))
    axes[0].legend(fontsize="small")
    save(figure, path)


def _draw_bits(axes: Axes, log: Log, over: str, colour: str) -> None:
    axes.plot(*log.curve(over, "bits_per_byte"), color=colour, linewidth=0.7, alpha=0.6)
    for level in range(log.levels - 1):
        xs, ys = log.curve(over, "level_bits_per_byte", level)
        if xs:
            label = f"{log.name}, level 0 alone" if not level else f"{log.name}, levels 0 to {level}"
            axes.plot(xs, ys, color=colour, linewidth=0.7, linestyle=_dashes(level), label=label)
    xs, ys = log.curve(over, "validation_bits_per_byte")
    axes.plot(xs, ys, color=colour, linewidth=2, marker="o", markersize=3, label=log.name)


def _range(logs: Sequence[Log]) -> tuple[float, float]:
    """Bits per byte to show: without the first twentieth of each run, which is far above the rest."""
    shown: list[float] = []
    for log in logs:
        later = log.points[len(log.points) // 20 :]
        shown += [point["bits_per_byte"] for point in later]
        shown += [point["validation_bits_per_byte"] for point in later if "validation_bits_per_byte" in point]
    margin = 0.05 * (max(shown) - min(shown)) + 1e-3
    return min(shown) - margin, max(shown) + margin


def _dashes(level: int) -> tuple[int, tuple[int, int]]:
    return 0, (2 + 3 * level, 2)


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure in the format of the path's suffix; .html: a page with the figure in it."""
    target = Path(path)
    if target.suffix.lower() != ".html":
        figure.savefig(target, dpi=150)
        return
    drawn = io.StringIO()
    figure.savefig(drawn, format="svg")
    svg = drawn.getvalue()
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(target.stem)}</title>'
        f"</head><body>{svg[svg.index('<svg') :]}</body></html>\n"
    )
    target.write_text(page, encoding="utf-8")
