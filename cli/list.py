"""chunker list"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from chunker.cli import files, options
from chunker.cli.guard import Failure, each_file, leave
from chunker.cli.report import Figures, number, print_json, print_table

if TYPE_CHECKING:
    from chunker.codec.info import FrameInfo

COLUMNS = ("<archive", "bytes in", "bytes out", "ratio", "bits/byte", "<blocks", "<model", "<fingerprint")


@click.command("list", short_help="Show sizes, blocks and models of archives.")
@options.files_argument
@options.json_option
def list_command(paths: tuple[str, ...], as_json: bool) -> None:
    """Show what is in every FILE, from its index alone: no content is decoded or checked.

    bytes in is the size of the original, bytes out that of the archive. blocks are counted by kind: stack (by
    contexts and a model's recurrent levels), contexts (by those alone), lzma, raw (as they were).
    """
    leave(show_archives(paths, as_json=as_json))


def show_archives(
    paths: Iterable[str], *, as_json: bool, quiet: bool = False, suffix: str = files.SUFFIX
) -> list[Failure]:
    """Print a table or a JSON document about archives; returns the failures."""
    infos: list[tuple[str, FrameInfo]] = []

    def one(path: str) -> None:
        from chunker.codec.archive import cut_off
        from chunker.codec.info import frame_info

        if path == files.STANDARD:
            files.refuse_terminal_input(force=False)
        path = files.archive_at(path, suffix)
        with files.open_source(path, named_target=True) as source:
            info = frame_info(source.stream)
        if not info.complete:
            raise cut_off(info.bytes_out)
        infos.append((path, info))

    failures = each_file(paths, one, quiet=quiet)
    if as_json:
        print_json({"archives": [_to_json(*info) for info in infos], "errors": failures})
    elif infos:
        print_table(COLUMNS, _rows(infos))
    return failures


def _rows(infos: list[tuple[str, FrameInfo]]) -> list[list[str]]:
    rows = []
    for path, info in infos:
        models = [name or "unknown" for name in info.models]
        rows.append(
            [
                files.shown(path),
                *_figures(Figures(info.bytes_in, info.bytes_out)),
                ", ".join(f"{count} {kind}" for kind, count in _kinds(info).items()) or "-",
                ", ".join(map(files.shown, models)) or "-",
                ", ".join(fingerprint.hex() for fingerprint in info.fingerprints) or "-",
            ]
        )
    if len(infos) > 1:
        total = Figures(sum(i.bytes_in for _, i in infos), sum(i.bytes_out for _, i in infos))
        rows.append(["total", *_figures(total), "", "", ""])
    return rows


def _figures(figures: Figures) -> list[str]:
    return [
        f"{figures.original:,}",
        f"{figures.archive:,}",
        number(figures.ratio, 3),
        number(figures.bits_per_byte, 3),
    ]


def _to_json(path: str, info: FrameInfo) -> dict[str, Any]:
    from chunker.codec import samples

    return {
        "name": path,
        **Figures(info.bytes_in, info.bytes_out).to_json(),
        "archives": info.archives,
        "format_version": info.version,
        "blocks": _kinds(info),
        "settings": [
            {
                "contexts": settings.contexts.name.lower(),
                "gate": settings.gate,
                "sample": samples.name(settings.sample),
            }
            for settings in dict.fromkeys(block.settings for block in info.blocks)
            if settings is not None
        ],
        "models": [
            {"name": name, "fingerprint": fingerprint.hex()}
            for name, fingerprint in zip(info.models, info.fingerprints, strict=True)
        ],
    }


def _kinds(info: FrameInfo) -> dict[str, int]:
    """How many blocks there are of each kind, in order of appearance."""
    return dict(Counter(block.kind.name.lower() for block in info.blocks))
