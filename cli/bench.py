"""chunker bench"""

from __future__ import annotations

import contextlib
import stat
import tempfile
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from chunker.cli import options, work
from chunker.cli.files import shown
from chunker.cli.guard import FAILURE, each_file, leave
from chunker.cli.measure import Result, best_of, measure, pieces
from chunker.cli.peers import Peer, all_peers
from chunker.cli.progress import Progress
from chunker.cli.report import print_json, print_table
from chunker.errors import UsageError

if TYPE_CHECKING:
    from chunker.modelfile import Model

COLUMNS = (
    "<compressor",
    "bytes",
    "bits/char",
    "pack KB/s",
    "by CPU",
    "unpack KB/s",
    "by CPU",
    "<check",
)


@click.command(short_help="Compare with gzip, bzip2, xz and others on files of yours.")
@options.files_argument
@options.model_options
@options.threads_option
@options.preset_options
@options.json_option
@click.option(
    "--repeat", type=click.IntRange(min=1), default=1, metavar="N", help="Show the fastest of N runs."
)
@click.option("--piece", type=click.IntRange(min=1), metavar="BYTES", help="Code pieces of this size alone.")
@click.option(
    "--only", multiple=True, metavar="NAME", help="Of the others, only those whose name contains this."
)
@options.quiet_option
def bench(
    paths: tuple[str, ...],
    model: str | None,
    threads: int | None,
    preset: str,
    as_json: bool,
    repeat: int,
    piece: int | None,
    only: tuple[str, ...],
    quiet: bool,
) -> None:
    """Compress and decompress every FILE with chunker and with others, in a table per file and in total.

    The others are gzip, bzip2 and xz from Python's standard library and, where installed, zstd, brotli,
    PPMd (pyppmd, 7z) and zpaq, at their strongest settings; PPMd at order 6 and at the order that gives the
    least. KB/s are 1000 bytes of the original per second of the clock, and by CPU time (of all threads and
    started programs). check tells whether decompressing gave the original. Loading the model is not timed, starting other programs is: compare speeds on large
    files without --piece. -T holds for all that can use threads; the others use one if it is left out.
    """
    from chunker.modelfile import load_model

    chosen = load_model(model)
    ours = chunker_as_peer(chosen, threads, preset)
    peers = _chosen(all_peers(threads), only)
    results: list[tuple[str, list[Result]]] = []

    def one(path: str) -> None:
        results.append((path, _compare(path, ours, peers, piece, repeat, quiet)))
        if not as_json:
            _print(path, results[-1][1], piece)

    failures = each_file(paths, one)
    totals = [sum(group[1:], group[0]) for group in zip(*(rows for _, rows in results), strict=True)]
    if as_json:
        settings = {
            "model": chosen.name,
            "threads": threads,
            "preset": preset,
            "piece_bytes": piece,
            "repeat": repeat,
        }
        each = [{"name": path, "results": [row.to_json() for row in rows]} for path, rows in results]
        print_json(
            {**settings, "files": each, "total": [row.to_json() for row in totals], "errors": failures}
        )
    elif len(results) > 1:
        _print("total", totals, piece)
    leave(failures)
    if any(rows[0].error for _, rows in results):
        click.get_current_context().exit(FAILURE)


def _chosen(peers: list[list[Peer]], only: tuple[str, ...]) -> list[list[Peer]]:
    """The peers whose label contains one of `only`; all if it is empty, none for "none".

    Raises
    ------
    click.UsageError: a name fits no compressor here.
    """
    labels = [group[0].label for group in peers]
    for name in only:
        if name != "none" and not any(name in label for label in labels):
            raise click.UsageError(f"--only {name}: there is none such here; choose from {', '.join(labels)}")
    return [group for group in peers if not only or any(name in group[0].label for name in only)]


def chunker_as_peer(model: Model, threads: int | None, preset: str = "default") -> Peer:
    """Our own codec, packing a file into another like the others do."""

    def compress(source: Path, target: Path) -> None:
        with source.open("rb") as plain, target.open("wb") as packed:
            work.pack(plain, packed, model, threads, preset=preset)

    def decompress(source: Path, target: Path) -> None:
        with source.open("rb") as packed, target.open("wb") as plain:
            work.unpack(packed, plain, model, threads)

    shown = "" if preset == "default" else f" --{preset}"
    return Peer(f"chunker{shown} ({model.name})", compress, decompress)


def _compare(
    path: str, ours: Peer, peers: list[list[Peer]], piece: int | None, repeat: int, quiet: bool
) -> list[Result]:
    """One result for each compressor, ours first."""
    source = Path(path)
    if not stat.S_ISREG(source.stat().st_mode):
        raise UsageError("is no regular file, and a benchmark reads its files several times")
    size = source.stat().st_size
    with (
        tempfile.TemporaryDirectory(prefix="chunker-bench-") as name,
        contextlib.closing(Progress(path, size * (1 + len(peers)), quiet=quiet)) as progress,
    ):
        folder = Path(name)
        parts = partial(pieces, source, piece, folder)
        warm_up = folder / "warm-up"
        warm_up.write_bytes(b"The first use loads the model.")
        measure(ours, [warm_up], folder, 1)
        results = [measure(ours, parts(), folder, repeat)]
        for group in peers:
            progress.advance(size)
            results.append(best_of(group, parts, folder, repeat))
    return results


def _print(name: str, results: list[Result], piece: int | None) -> None:
    title = f"{shown(name)}: {results[0].original:,} bytes"
    if piece is not None:
        title += f" in pieces of {piece:,} bytes, each coded alone"
    print_table(COLUMNS, [result.cells() for result in results], title=title)
    click.echo()
