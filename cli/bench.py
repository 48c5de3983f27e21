"""chunker bench"""

from __future__ import annotations

import contextlib
import stat
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from chunker.benchmark.measure import Result, best_of, measure, pieces
from chunker.benchmark.peers import STRONGEST, Peer, all_peers
from chunker.cli import options, work
from chunker.cli.files import shown
from chunker.cli.guard import FAILURE, Failure, each_file, leave
from chunker.cli.progress import Progress
from chunker.cli.report import Figures, number, print_json, print_table, rounded
from chunker.errors import UsageError

if TYPE_CHECKING:
    from chunker.models import Model

NAMES = ("fast", "default", "best")  # of the presets
ABLATION_BYTES = 100_000  # of each file, if --piece does not say otherwise
COLUMNS = ("<compressor", "bytes", "bits/byte", "pack KB/s", "unpack KB/s", "<check")


@click.command(short_help="Compare with xz, PPMd, zpaq and others on files of yours.")
@options.files_argument
@options.model_options
@click.option(
    "--preset",
    "presets",
    multiple=True,
    type=click.Choice(NAMES),
    help="Only this one, or these; all if left out.",
)
@click.option(
    "-T", "--threads", type=click.IntRange(min=1), default=1, show_default=True, metavar="N",
    help="Threads of all that can use several.",
)  # fmt: skip
@options.json_option
@click.option(
    "--repeat", type=click.IntRange(min=1), default=1, metavar="N", help="Show the fastest of N runs."
)
@click.option("--piece", type=click.IntRange(min=1), metavar="BYTES", help="Code pieces of this size alone.")
@click.option(
    "--only",
    multiple=True,
    metavar="NAME",
    help='Of the others, only those whose name contains this; or "none".',
)
@click.option(
    "--ablation", is_flag=True, help="Instead: how much larger a block is without each part of level 0."
)
@click.option(
    "--planted", type=click.IntRange(min=1), metavar="N",
    help="Instead: plant N strange lines into each log, and tell how many of them `chunker surprise` finds.",
)  # fmt: skip
@options.quiet_option
def bench(
    paths: tuple[str, ...],
    model: str | None,
    presets: tuple[str, ...],
    threads: int,
    as_json: bool,
    repeat: int,
    piece: int | None,
    only: tuple[str, ...],
    ablation: bool,
    planted: int | None,
    quiet: bool,
) -> None:
    """Compress and decompress every FILE with each preset and with others, in a table per file and in total.

    The others are xz -9e, PPMd (pyppmd) at the order that gives the least, and zpaq -m5, as far as they are
    installed; with --only also gzip, bzip2, zstd and brotli. KB/s are 1000 bytes of the original per second
    of CPU time, of all threads and started programs: the speed of one core. check tells whether decompressing
    gave the original. Loading the model is not timed, starting other programs is: compare speeds on large
    files without --piece.
    """
    from chunker.core.backend import backend

    if ablation:
        leave(_ablate(paths, piece, threads, as_json))
        return
    if planted is not None:
        leave(_find_planted(paths, planted, model, threads, as_json))
        return
    ours = our_peers(model, threads, presets or NAMES)
    peers = _chosen(all_peers(threads), only)
    results: list[tuple[str, list[Result]]] = []

    def one(path: str) -> None:
        results.append((path, _compare(path, ours, peers, piece, repeat, quiet)))
        if not as_json:
            _print(path, results[-1][1], piece)

    failures = each_file(paths, one)
    totals = [sum(group[1:], group[0]) for group in zip(*(rows for _, rows in results), strict=True)]
    if as_json:
        settings = {"backend": backend().name, "threads": threads, "piece_bytes": piece, "repeat": repeat}
        each = [{"name": path, "results": [_to_json(row) for row in rows]} for path, rows in results]
        print_json(
            {**settings, "files": each, "total": [_to_json(row) for row in totals], "errors": failures}
        )
    elif len(results) > 1:
        _print("total", totals, piece)
    leave(failures)
    if any(row.error for _, rows in results for row in rows[: len(ours)]):
        click.get_current_context().exit(FAILURE)


def _ablate(paths: tuple[str, ...], piece: int | None, threads: int, as_json: bool) -> list[Failure]:
    """Prints the table: a row for each part, a column for each file,
    of which `piece` bytes are coded at most."""
    from chunker.core.ablation import ablate

    contents: dict[str, bytes] = {}

    def read(path: str) -> None:
        with Path(path).open("rb") as file:
            contents[path] = file.read(piece or ABLATION_BYTES)

    failures = each_file(paths, read)
    table = ablate(list(contents.values()), threads)
    if as_json:
        rows = [
            {"without": name, "growth_percent": dict(zip(contents, row, strict=True))}
            for name, row in table.items()
        ]
        print_json({"ablation": rows, "errors": failures})
    else:
        columns = ("<without", *(Path(path).name for path in contents))
        print_table(columns, [[name, *(f"{growth:+.2f} %" for growth in row)] for name, row in table.items()])
    return failures


def _find_planted(
    paths: tuple[str, ...], count: int, model: str | None, threads: int, as_json: bool
) -> list[Failure]:
    """Prints for each log how many of the lines planted are among as many most unusual ones,
    and among the marked."""
    from chunker.benchmark.planted import plant
    from chunker.codec.lines import THRESHOLD, read_lines

    # Few contexts alone, unless a model is named or refused.
    how = ("fast", options.NO_MODEL) if model is None else ("default", model)
    preset = work.how_to_code(*how)
    given = work.named_model(model)
    rows: list[dict[str, Any]] = []

    def one(path: str) -> None:
        data, planted = plant(Path(path).read_bytes(), count)
        lines = read_lines(data, preset, model=given, workers=threads)
        most = sorted(lines, key=lambda line: -line.score)[: len(planted)]
        marked = [line.number for line in lines if line.score > THRESHOLD]
        rows.append(
            {
                "name": path,
                "lines": len(lines),
                "planted": len(planted),
                "found": len(planted & {line.number for line in most}),
                "planted_marked": len(planted & set(marked)),
                "marked": len(marked),
            }
        )

    failures = each_file(paths, one)
    if as_json:
        print_json({"planted": rows, "errors": failures})
    elif rows:
        columns = ("<log", "lines", "planted", "found", "planted and marked", "marked")
        print_table(
            columns, [[shown(str(name)), *map(str, rest)] for name, *rest in (row.values() for row in rows)]
        )
    return failures


def our_peers(model: str | None, threads: int, presets: tuple[str, ...]) -> list[Peer]:
    """Our own codec with each preset. Raises ModelNotFound, NotAModel, ModelVersionError, UsageError."""
    from chunker.codec.finder import as_model
    from chunker.core.backend import backend

    given = work.named_model(model)
    models = {name: None if model == options.NO_MODEL else as_model(given, name) for name in presets}
    backend()  # one that cannot be had is told here and not in every row
    return [_as_peer(name, chosen, threads) for name, chosen in models.items()]


def _as_peer(preset: str, model: Model | None, threads: int) -> Peer:
    """One preset, packing a file into another as the others do. model: None for contexts alone."""

    from chunker.codec.pipes import pack, unpack
    from chunker.codec.presets import without_model

    how = without_model(preset) if model is None else preset

    def compress(source: Path, target: Path) -> None:
        with source.open("rb") as plain, target.open("wb") as packed:
            pack(plain, packed, how, model=model, workers=threads)

    def decompress(source: Path, target: Path) -> None:
        with source.open("rb") as packed, target.open("wb") as plain:
            unpack(packed, plain, model=model, workers=threads)

    option = "" if preset == "default" else f" --{preset}"
    return Peer(f"chunker{option} ({model.name if model is not None else 'no model'})", compress, decompress)


def _chosen(peers: list[list[Peer]], only: tuple[str, ...]) -> list[list[Peer]]:
    """The peers whose label contains one of `only`; the strongest if it is empty, none for "none".

    Raises
    ------
    click.UsageError: a name fits no compressor.
    """
    labels = [group[0].label for group in peers]
    for name in only:
        if name != "none" and not any(name in label for label in labels):
            raise click.UsageError(f"--only {name}: there is none such; choose from {', '.join(labels)}")
    return [group for group in peers if any(name in group[0].label for name in only or STRONGEST)]


def _compare(
    path: str, ours: list[Peer], peers: list[list[Peer]], piece: int | None, repeat: int, quiet: bool
) -> list[Result]:
    """One result for each compressor, ours first."""
    source = Path(path)
    if not stat.S_ISREG(source.stat().st_mode):
        raise UsageError("is no regular file, and a benchmark reads its files several times")
    size = source.stat().st_size
    with (
        tempfile.TemporaryDirectory(prefix="chunker-bench-") as name,
        contextlib.closing(Progress(path, size * (len(ours) + len(peers)), quiet=quiet)) as progress,
    ):
        folder = Path(name)
        parts = partial(pieces, source, piece, folder)
        results = []
        warm_up = folder / "warm-up"
        warm_up.write_bytes(b"The first use of a model prepares it for the core.")
        for peer in ours:
            measure(peer, [warm_up], folder, 1)
            results.append(measure(peer, parts(), folder, repeat))
            progress.advance(size)
        for group in peers:
            results.append(best_of(group, parts, folder, repeat))
            progress.advance(size)
    return results


def _print(name: str, results: list[Result], piece: int | None) -> None:
    title = f"{shown(name)}: {results[0].original:,} bytes"
    if piece is not None:
        title += f" in pieces of {piece:,} bytes, each coded alone"
    print_table(COLUMNS, [_cells(result) for result in results], title=title)
    click.echo()


def _cells(result: Result) -> list[str]:
    """A row of the table; speeds are those of one core."""
    name = result.compressor if result.setting is None else f"{result.compressor} ({result.setting})"
    if result.error is not None:
        return [name, "", "", "", "", result.error]
    figures = Figures(result.original, result.archive)
    speeds = [number(result.speed(seconds), 0) for seconds in (result.packing.cpu, result.unpacking.cpu)]
    return [name, f"{result.archive:,}", number(figures.bits_per_byte, 3), *speeds, "OK"]


def _to_json(result: Result) -> dict[str, Any]:
    """For --json; sizes and times are null after an error."""
    sound = result.error is None
    document: dict[str, Any] = {"compressor": result.compressor, "setting": result.setting}
    figures = Figures(result.original, result.archive).to_json()
    document |= {key: value if sound else None for key, value in figures.items()}
    for key, taken in (("compress", result.packing), ("decompress", result.unpacking)):
        for suffix, seconds in (("", taken.wall), ("cpu_", taken.cpu)):
            document[f"{key}_{suffix}seconds"] = round(seconds, 6) if sound else None
            speed = result.speed(seconds) if sound else None
            document[f"{key}_{suffix}kb_per_second"] = rounded(speed, 3)
    return {**document, "round_trip": sound, "error": result.error}
