"""`chunker train --records RULE SAMPLE... -o MODEL`: a model of records, without torch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from chunker.cli import files
from chunker.cli.files import shown
from chunker.cli.guard import each_file, leave
from chunker.cli.report import number, print_table
from chunker.cli.training_options import given
from chunker.errors import UsageError

if TYPE_CHECKING:
    from chunker.core.backend import Contexts
    from chunker.records.splitting import Rule
    from chunker.records.training import Trained

OPTIONS = {"corpus", "model", "force", "records", "sample", "net", "seed", "threads", "validation", "quiet"}
COLUMNS = ("<contexts", "<order", "sample bytes", "bits/byte", "load s", "<chosen")


def train_records(ctx: click.Context) -> None:
    """Train as the options say, write the model, and print what was tried and what there is to be gained.

    Raises
    ------
    UsageError: an option belongs to the training of stacks, the target exists, or there are no records.
    """
    from chunker.models import load_model
    from chunker.records.model import MAX_SAMPLE_BYTES
    from chunker.records.splitting import rule_of
    from chunker.records.training import VALIDATION_SHARE, train

    o = ctx.params
    for name in o:
        if name not in OPTIONS and given(ctx, name):
            raise UsageError(f"--{name.replace('_', '-')} does not go with --records; leave it out")
    target: Path = o["model"]
    if target.exists() and not o["force"]:
        raise UsageError(f"{shown(str(target))} exists; replace it with --force")
    rule = rule_of(o["records"])
    if not o["corpus"]:
        raise UsageError("there is nothing to train on; name files of records")
    records: list[bytes] = []
    leave(each_file(o["corpus"], lambda path: records.extend(_read(path, rule))))
    trained = train(
        records,
        rule,
        max_sample=min(o["sample"] or MAX_SAMPLE_BYTES, MAX_SAMPLE_BYTES),
        validation=o["validation"] if given(ctx, "validation") else VALIDATION_SHARE,
        seed=o["seed"],
        workers=o["threads"],
        net=None if o["net"] is None else load_model(o["net"]),
    )
    trained.model.save(target)
    if not o["quiet"]:
        _tell(trained, target)


def _contexts(contexts: Contexts, net: bool) -> str:
    return contexts.name.lower() + (" and net" if net else "")


def _read(path: str, rule: Rule) -> list[bytes]:
    from chunker.records.splitting import split

    with files.open_source(path, named_target=True) as source:
        return split(source.stream.read(), rule)


def _tell(trained: Trained, target: Path) -> None:
    """The curve, and one line."""
    model, config = trained.model, trained.model.config
    if trained.points:
        print_table(
            COLUMNS,
            [
                [
                    _contexts(point.candidate.contexts, point.candidate.net),
                    "random" if point.candidate.shuffled else "as it came",
                    f"{point.sample_bytes:,}",
                    number(trained.bits(point.coded_bytes), 3),
                    number(point.seconds, 2),
                    "*" if point is trained.chosen else "",
                ]
                for point in trained.points
            ],
        )
    how = "deflate with a preset dictionary"
    if config.method == "contexts":
        how = f"contexts ({_contexts(config.contexts, bool(config.gate))})"
    sizes = f"{len(model.sample):,} bytes of sample in a file of {target.stat().st_size:,}"
    click.echo(f"{shown(str(target))}: {how}, {sizes}, id {model.id.hex()}")
    if not trained.points:
        click.echo("too few records to hold some out: nothing was compared")
        return
    rivals = [
        f"{rival.name} {number(trained.bits(coded), 3) if coded is not None else f'- ({rival.missing})'}"
        for rival, coded in trained.rivals
    ]
    own = number(trained.bits(trained.coded_bytes), 3)
    click.echo(f"{own} bits/byte on {trained.validation_records:,} validation records; {'; '.join(rivals)}")
