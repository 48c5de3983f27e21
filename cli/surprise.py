"""`chunker surprise FILE`: what each character costs in an archive, in colours, as rows, or as a page."""

from __future__ import annotations

import contextlib
import json
import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chunker.cli import coloured, files, options
from chunker.cli.guard import each_file, leave
from chunker.cli.options import NO_MODEL
from chunker.cli.progress import Progress
from chunker.cli.work import Job, Worker, takes_job
from chunker.errors import UsageError

if TYPE_CHECKING:
    from chunker.codec.lines import Line
    from chunker.views.characters import Characters, Unit
    from chunker.views.page import About

MOST_BYTES = 1 << 24  # that are shown character by character
LOOKED_AT = 1 << 20  # bytes of a text of any length, to tell whether it is one
MOST_COLUMNS = 80  # of a text in a row for people
UNITS = ("char", "word", "line", "field")


@dataclass(frozen=True)
class Asked:
    """How the figures are to be shown; the fields are the options of the command."""

    by: str
    html: Path | None
    against: str | None
    first: int
    to: int | None
    most: int | None
    unusual: bool
    threshold: float
    color: str
    levels: bool
    as_json: bool


@click.command("surprise", short_help="Bits of each character or line, in colours or as a page.")
@options.files_argument
@click.option("--by", type=click.Choice(UNITS), help="What to tell the bits of.")
@click.option(
    "--html", type=click.Path(path_type=Path), metavar="OUT", help="Write a page for a browser instead."
)
@click.option(
    "--against", metavar="MODEL", shell_complete=options.complete_model,
    help="Show where the model knows more than this one; none: than contexts alone.",
)  # fmt: skip
@click.option(
    "--from", "first", type=click.IntRange(1), default=1, metavar="LINE",
    help="Begin with this line, as if the file did.",
)  # fmt: skip
@click.option("--to", type=click.IntRange(1), metavar="LINE", help="End with this line.")
@click.option("-n", "--most", type=click.IntRange(0), metavar="N", help="Print only the N most unusual ones.")
@click.option("--unusual", is_flag=True, help="Print only the lines that are marked.")
@click.option(
    "--threshold", type=click.FloatRange(0), default=5.0, show_default=True, metavar="Z",
    help="Mark lines whose score is above Z.",
)  # fmt: skip
@click.option(
    "--color", type=click.Choice(("auto", "always", "never")), default="auto", show_default=True,
    help="auto: on a terminal, unless NO_COLOR is set.",
)  # fmt: skip
@click.option("--levels", is_flag=True, help="Below each line of the text what reached the recurrent levels.")
@click.option("-f", "--force", is_flag=True, help="Replace OUT; show what looks binary.")
@options.model_options
@options.preset_options
@options.threads_option
@options.quiet_option
@click.option("--json", "as_json", is_flag=True, help="Print rows, a JSON document in each line.")
@takes_job
def surprise(paths: tuple[str, ...], by: str | None, job: Job, **asked: Any) -> None:
    """Show what FILE costs in an archive: the text coloured by its bits on a terminal, a row for each line
    elsewhere.

    --by word, line and field colour by the mean bits of a character in each. Where there are no colours,
    --by char prints the bits below the text. `--color always | less -R` keeps the colours.

    Rows of lines: mark, line number, bits, share of the bytes of which the contexts were too unsure, so that
    a recurrent level woke, score, the beginning of the line. Nothing is trained: what came before makes a
    line cheap, and so does what the model knows. The score counts the bits of words and numbers above what is
    usual at their places, so that a number which is new in every line is not unusual; it is the distance
    above the median in robust standard deviations, and 0 below the median. Of each byte counts what it costs
    after the lines before it or after those behind it, whichever is less: the first of many alike is not
    unusual.
    """
    view = Asked(_unit(by, **asked), **asked)
    _check(paths, by, view)
    worker = Worker(job)
    against = None if view.against is None else Worker(replace(job, model=_model_of(view.against)))

    def one(path: str) -> None:
        if view.html is not None and view.html.is_file() and not job.force:  # before the work, not after it
            raise UsageError(f"{files.shown(str(view.html))} exists; replace it with -f")
        with files.open_source(path, named_target=True) as source:
            data = _part(source.stream.read(), view)
            if view.by == "line" and against is None:
                if len(paths) > 1 and not view.as_json:
                    click.echo(files.shown(path))
                _print_lines(path, data, worker, view)
                return
            reading = _Reading(path, _characters(path, data, worker, against, view), worker, against)
            if view.html is not None:
                _write_page(reading, source, view)
                return
        if len(paths) > 1 and not view.as_json:
            click.echo(files.shown(path))
        if view.as_json or view.most is not None or view.by == "line":
            _print_units(reading, view)
        else:
            _print_text(reading, view)

    failures = each_file(paths, one)
    if view.as_json:
        for failure in failures:
            click.echo(json.dumps(failure))
    leave(failures)


def _unit(by: str | None, **o: Any) -> str:
    """What to tell the bits of, where the user does not say."""
    if by is not None:
        return by
    if o["html"]:
        return "char"
    as_rows = o["as_json"] or o["unusual"] or o["most"] is not None
    return "char" if not as_rows and coloured.has_colours(o["color"]) else "line"


def _check(paths: tuple[str, ...], by: str | None, view: Asked) -> None:
    """Raise click.UsageError if the options do not go together."""
    if view.html is not None:
        if len(paths) > 1:
            raise click.UsageError("--html names one page, so it takes one file")
        if view.as_json or by not in (None, "char") or view.unusual or view.most is not None:
            raise click.UsageError("a page shows every character; leave out what chooses rows")
    if view.unusual and (view.by != "line" or view.against is not None):
        raise click.UsageError("--unusual is of lines under one model; leave out --by and --against")
    if view.to is not None and view.to < view.first:
        raise click.UsageError("--to is before --from")


def _model_of(name: str) -> str:
    return NO_MODEL if name == "none" else name


# ---- what is read --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Reading:
    """A text as one model predicted it, and perhaps another."""

    path: str
    characters: Characters
    worker: Worker
    against: Worker | None

    @property
    def about(self) -> About:
        from chunker.views.page import About

        workers = [self.worker, *([] if self.against is None else [self.against])]
        name = "standard input" if self.path == files.STANDARD else files.shown(self.path)
        return About(name, tuple(worker.model_name for worker in workers))

    @property
    def values(self) -> list[float]:
        """(n,) the bits that colours show: those of each character, or the difference of the models."""
        if self.against is not None:
            return self.characters.differences
        return self.characters.bits.tolist()


def _part(data: bytes, view: Asked) -> bytes:
    """The lines that were asked for. Raises UsageError."""
    if view.first == 1 and view.to is None:
        return data
    lines = data.splitlines(keepends=True)
    chosen = lines[view.first - 1 : view.to]
    if not chosen:
        raise UsageError(
            f"has {len(lines):,} lines, so there is no line {view.first:,}; choose another --from"
        )
    return b"".join(chosen)


def _characters(path: str, data: bytes, worker: Worker, against: Worker | None, view: Asked) -> Characters:
    """Raises UsageError, CorpusError, and what the codec says of models."""
    from chunker.views import characters, page

    most = MOST_BYTES if view.html is None else page.MOST_BYTES
    if len(data) > most:
        raise UsageError(
            f"has {len(data):,} bytes, and {most:,} can be shown: choose lines with --from and --to, "
            "or print rows with --by line"
        )
    characters.check_text(data, binary=worker.job.force)
    workers = [worker, *([] if against is None else [against])]
    with contextlib.closing(Progress(path, len(workers) * len(data), quiet=worker.job.quiet)) as bar:
        first = worker.trace(data, bar.advance, detail=view.html is not None, rank_from=_rank_from(view))
        others = [each.trace(data, bar.advance) for each in workers[1:]]
    return characters.decode(
        data,
        first.bits,
        reach=characters.reached(first.levels) if worker.needs_model else b"",
        other_bits=others[0].bits if others else (),
        guesses=first.guesses,
        confidences=first.confidences,
        level_bits=first.level_bits,
        ranks=characters.Ranks(first.ranks, first.best, first.best_bits, first.best_levels)
        if first.ranks
        else None,
        line=view.first,
    )


def _rank_from(view: Asked) -> float | None:
    """From how many bits on a byte is to be ranked; the core in Python would take minutes for a page."""
    from chunker.core.backend import backend
    from chunker.views.page import RANK_FROM_BITS

    return None if view.html is None or backend().name == "python" else RANK_FROM_BITS


# ---- how it is shown -----------------------------------------------------------------------------------


def _write_page(reading: _Reading, source: files.Source, view: Asked) -> None:
    from chunker.views.page import page

    content = page(reading.characters, reading.about)
    # The page is as new as it is; it takes no mode or time from the text.
    source, force = replace(source, status=None), reading.worker.job.force
    with files.open_target(str(view.html), source, force=force) as out:
        out.write(content)


def _print_text(reading: _Reading, view: Asked) -> None:
    from chunker.views.characters import mean_bits, units
    from chunker.views.page import summary

    characters, values = reading.characters, reading.values
    if view.by != "char":
        values = mean_bits(values, units(characters, view.by))
    told = f"{reading.about.name}: {summary(characters, reading.about)}"
    if coloured.has_colours(view.color):
        compared = reading.against is not None
        coloured.print_coloured(characters, values, compared=compared, levels=view.levels, told=told)
    else:
        coloured.print_digits(characters, values, click.echo, levels=view.levels, told=told)


def _print_units(reading: _Reading, view: Asked) -> None:
    """A row for each character, word, line or field; with --most for the dearest ones."""
    from chunker.views.characters import units

    values, parts = reading.values, units(reading.characters, view.by)
    if view.most is not None:
        parts.sort(key=lambda part: -abs(math.fsum(values[part.begin : part.end])))
        del parts[view.most :]
    for part in parts:
        row = _unit_row(reading, part)
        click.echo(json.dumps({"name": reading.path, **row}) if view.as_json else _unit_line(row))


def _unit_row(reading: _Reading, part: Unit) -> dict[str, Any]:
    """For --json. offset, size: in bytes from the first line that was read."""
    characters, where = reading.characters, slice(part.begin, part.end)
    begin, end = characters.starts[part.begin], characters.starts[part.end]
    row: dict[str, Any] = {"line": part.line, "column": part.column}
    if part.field:
        row["field"] = part.field
    row |= {"offset": begin, "size": end - begin, "bits": round(math.fsum(characters.bits[where]), 3)}
    if reading.against is not None:
        row["bits_against"] = round(math.fsum(characters.other_bits[where]), 3)
    if characters.reach:
        row["reach"] = max(characters.reach[where])
    text = characters.text[where].encode("utf-8", "surrogateescape")
    return {**row, "text": text.decode("utf-8", "replace")}


def _unit_line(row: dict[str, Any]) -> str:
    """For people."""
    bits = f"{row['bits']:>8.1f}"
    if "bits_against" in row:
        bits += f" {row['bits_against']:>8.1f} {row['bits_against'] - row['bits']:>+8.1f}"
    return f"{row['line']:>6} {row['column']:>5} {bits}  {files.shown(row['text'])[:MOST_COLUMNS]}"


def _print_lines(path: str, data: bytes, worker: Worker, view: Asked) -> None:
    """A row for each line, with its score. Raises what `check_text` raises for its beginning."""
    from chunker.views.characters import check_text

    if data:
        check_text(data[:LOOKED_AT], binary=worker.job.force)
    lines = _measure(path, data, worker)
    if view.unusual:
        lines = [line for line in lines if line.score > view.threshold]
    if view.most is not None:
        lines = sorted(lines, key=lambda line: -line.score)[: view.most]
    for line in lines:
        line = replace(line, number=line.number + view.first - 1)
        if view.as_json:
            click.echo(json.dumps({"name": path, **_to_json(line, view.threshold)}))
        else:
            click.echo(_row(line, view.threshold))


def _measure(path: str, data: bytes, worker: Worker) -> list[Line]:
    from chunker.codec.lines import read_lines

    job = worker.job
    with contextlib.closing(Progress(path, 2 * len(data), quiet=job.quiet)) as bar:
        return read_lines(data, worker.preset, model=worker.model, workers=job.threads, advance=bar.advance)


def _woken(line: Line) -> float:
    """The share of its bytes at which a recurrent level was at work."""
    return 1 - line.levels.count(0) / len(line.levels)


def _text(line: Line) -> str:
    return line.text.rstrip(b"\r\n").decode("utf-8", "replace")


def _row(line: Line, threshold: float) -> str:
    """For people."""
    mark, text = "!" if line.score > threshold else " ", _text(line)
    figures = f"{sum(line.bits):>8.1f} {_woken(line):>4.0%} {line.score:>7.1f}"
    return f"{mark} {line.number:>6} {figures}  {(files.shown(text) if text else '')[:MOST_COLUMNS]}".rstrip()


def _to_json(line: Line, threshold: float) -> dict[str, Any]:
    """For --json."""
    bits = sum(line.bits)
    return {
        "line": line.number,
        "bits": round(bits, 3),
        "bits_per_byte": round(bits / len(line.bits), 4),
        "woken_share": round(_woken(line), 4),
        "score": round(line.score, 3),
        "unusual": line.score > threshold,
        "text": _text(line),
    }
