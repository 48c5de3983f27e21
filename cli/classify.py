"""`chunker classify fit|predict|evaluate`: supervised classification on the top level of a stack."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from chunker.cli import files, options
from chunker.cli.guard import HELP_OPTIONS, GuardedGroup, each_file, leave
from chunker.cli.report import print_json, print_table
from chunker.cli.training_options import numbers
from chunker.errors import UsageError

if TYPE_CHECKING:
    from chunker.classification.heads import Head


# Options that every trained head takes; what is left of a command's settings is the classifier's.
TRAINING = ("members", "batch_size", "dropout", "noise", "warp", "label_smoothing")


@click.group(
    "classify", short_help="Tell classes of sequences apart.", cls=GuardedGroup, context_settings=HELP_OPTIONS
)
def classify() -> None:
    """Learn to tell classes of sequences apart by what a stack of predictors did not expect in them.

    A stack first learns to predict the sequences without their labels; then a small classifier learns the
    labels from the top level's events, or with --features all from every level's inputs.
    """


@classify.command("fit", short_help="Learn from labelled sequences.")
@click.argument("labelled", type=click.Path(exists=True))
@click.option("-o", "--output", required=True, metavar="MODEL", help="The classifier's file.")
@click.option("-f", "--force", is_flag=True, help="Replace MODEL if it exists.")
@click.option(
    "--levels",
    default="64,64",
    callback=numbers,
    show_default=True,
    metavar="H,H",
    help="Hidden units, lowest level first.",
)
@click.option(
    "--features", type=click.Choice(["top", "all"]), default="all", show_default=True,
    help="What the classifier sees: the top level's events, or all levels' inputs.",
)  # fmt: skip
@click.option(
    "--head", type=click.Choice(["tune", "linear", "mlp", "none"]), default="tune", show_default=True,
    help="The classifier on the levels; none leaves only contexts and convolutions.",
)  # fmt: skip
@click.option(
    "--contexts/--no-contexts", default=True, show_default=True,
    help="Also count contexts (of vectors: random convolutions) and pool all classifiers.",
)  # fmt: skip
@click.option(
    "--convolutions", type=click.IntRange(0), default=0, show_default=True, metavar="MAPS",
    help="Also train a net of 2-D convolutions with so many maps, for spectra.",
)  # fmt: skip
@click.option(
    "--members", type=click.IntRange(1), default=1, show_default=True, help="Heads of each kind, averaged."
)
@click.option(
    "--unlabelled", metavar="FILE", type=click.Path(exists=True, dir_okay=False), multiple=True,
    help="Sequences to pre-train on besides: one a line, or a file .ts, its labels unread. May be repeated.",
)  # fmt: skip
@click.option("--per-case", is_flag=True, help="Standardise vectors case by case.")
@click.option("--deltas", is_flag=True, help="Add the changes of vectors as channels.")
@click.option(
    "--noise", type=click.FloatRange(0), default=0.0, show_default=True, help="On vectors, training."
)
@click.option(
    "--warp", type=click.FloatRange(0, 1, max_open=True), default=0.0, show_default=True,
    help="Stretch time by up to this share, training.",
)  # fmt: skip
@click.option(
    "--smoothing", "label_smoothing", type=click.FloatRange(0, 1, max_open=True), default=0.0,
    show_default=True, help="Share of the labels' weight spread over all classes, training.",
)  # fmt: skip
@click.option("--backwards", is_flag=True, help="Read events also from the last to the first.")
@click.option(
    "--pooling", default="last+mean", show_default=True, metavar="KIND+KIND",
    help="Of states: last, mean, max, attention.",
)  # fmt: skip
@click.option(
    "--dropout",
    type=click.FloatRange(0, 1, max_open=True),
    default=0.1,
    show_default=True,
    help="Of the head.",
)
@click.option(
    "--batch", "batch_size", type=click.IntRange(1), metavar="N",
    help="Cases a step of the head; by default a fiftieth of them, 32 to 256.",
)  # fmt: skip
@click.option(
    "--steps", type=click.IntRange(0), default=300, show_default=True, help="Pre-training, a level."
)
@click.option(
    "--head-steps", type=click.IntRange(1), default=400, show_default=True, help="Of the classifier."
)
@click.option(
    "--seed",
    "random_state",
    type=options.SEEDS,
    default=0,
    show_default=True,
    help="Same seed, same classifier.",
)
@options.json_option
def fit(
    labelled: str,
    output: str,
    force: bool,
    head: str,
    contexts: bool,
    convolutions: int,
    unlabelled: tuple[str, ...],
    backwards: bool,
    pooling: str,
    head_steps: int,
    as_json: bool,
    **settings: Any,
) -> None:
    """Learn from LABELLED and write MODEL.

    LABELLED is a file with label, tab, sequence in each line; a folder with one folder per class and one
    file per case; or vectors in a file .ts or .ts.gz (UCR, UEA archives). A bad row is named with its
    line number, and nothing is written.
    """
    import os

    from chunker import extras

    extras.require("sklearn", "classifying")  # before what follows loads torch
    from chunker.classification import (
        ConvolutionalHead,
        HistoryClassifier,
        NgramHead,
        RandomKernelHead,
        RecurrentHead,
        save_classifier,
    )
    from chunker.classification.labelled import is_vectors, read_labelled

    if os.path.exists(output):
        if not force:
            raise UsageError(f"{files.shown(output)} exists; replace it with -f")
        if any(os.path.samefile(source, output) for source in (labelled, *unlabelled)):
            raise UsageError(f"{files.shown(output)} is to be read; choose another name for the classifier")
    if not os.path.isdir(os.path.dirname(output) or "."):
        raise UsageError(f"there is no folder for {files.shown(output)}; make it first")
    begun = time.perf_counter()
    sequences, labels = read_labelled(labelled)
    vectors = is_vectors(labelled)
    more: list[Any] = []
    for path in unlabelled:
        if is_vectors(path) != vectors:
            raise UsageError(
                f"{files.shown(path)} is not of the same kind as {files.shown(labelled)}; "
                "both are lines, or both .ts"
            )
        more.extend(case for case in _cases(path, lines=True) if len(case))
    shared = {name: settings.pop(name) for name in TRAINING} | {"steps": head_steps}
    heads: list[Head] = []
    if head != "none":
        heads.append(RecurrentHead(readout=head, pooling=pooling, backwards=backwards, **shared))
    if convolutions:
        heads.append(ConvolutionalHead(maps=convolutions, **shared))
    if contexts:
        heads.append(RandomKernelHead() if vectors else NgramHead())
    if not heads:
        raise UsageError(
            "no classifier is left; leave out --no-contexts or --head none, or add --convolutions"
        )
    kind = "vectors" if vectors else "symbols"
    model = HistoryClassifier(kind=kind, heads=heads, **settings).fit(sequences, labels, more or None)
    save_classifier(output, model)
    seconds = time.perf_counter() - begun
    if as_json:
        print_json(
            {
                "model": output,
                "cases": len(labels),
                "unlabelled": len(more),
                "classes": [str(name) for name in model.classes_],
                "levels": list(model.stack_.widths),
                "event_share": round(model.event_share_, 6),
                "seconds": round(seconds, 3),
            }
        )
        return
    click.echo(
        f"{files.shown(output)}: {len(labels):,} cases, "
        + (f"{len(more):,} unlabelled, " if more else "")
        + f"{len(model.classes_)} classes, "
        f"{len(model.stack_.levels)} levels, {model.event_share_:.2%} of the inputs reach the top, "
        f"{seconds:.1f} s"
    )


@classify.command("predict", short_help="Name the class of each file or line.")
@click.argument("model_path", metavar="MODEL")
@options.files_argument
@click.option("--lines", is_flag=True, help="Each line of a file is a sequence of its own.")
@options.json_option
def predict(model_path: str, paths: tuple[str, ...], lines: bool, as_json: bool) -> None:
    """Print the class of every FILE and its probability.

    With --json also the share of the inputs that reach the top level.
    Of a file .ts or .ts.gz every case is classified; its labels are not looked at.
    """
    from chunker import extras

    extras.require("sklearn", "classifying")
    from chunker.classification import load_classifier
    from chunker.classification.labelled import is_vectors

    model = load_classifier(model_path)
    rows: list[dict[str, Any]] = []

    def one(path: str) -> None:
        each = lines or is_vectors(path)
        cases = _cases(path, lines)
        if not cases:
            raise UsageError("is empty; name a file with something in it")
        probabilities, share = model.evaluate(cases)
        for number, row in enumerate(probabilities, 1):
            best = int(row.argmax())
            found = {"name": path, "line": number} if each else {"name": path}
            rows.append(
                {
                    **found,
                    "class": str(model.classes_[best]),
                    "probability": round(float(row[best]), 6),
                    "event_share": round(share, 6),
                }
            )

    failures = each_file(paths, one)
    if as_json:
        print_json({"model": model_path, "cases": rows, "errors": failures})
    else:
        for row in rows:
            where = f"{files.shown(row['name'])}" + (f":{row['line']}" if "line" in row else "")
            click.echo(f"{where}\t{row['class']}\t{row['probability']:.4f}")
    leave(failures)


@classify.command("evaluate", short_help="Measure accuracy on labelled sequences.")
@click.argument("model_path", metavar="MODEL")
@click.argument("labelled", type=click.Path(exists=True))
@options.json_option
def evaluate(model_path: str, labelled: str, as_json: bool) -> None:
    """Measure MODEL on LABELLED: accuracy, macro F1, confusion, share of inputs that reach the top level.

    Rows of the confusion are the true classes, columns the predicted ones. A class that MODEL does not know
    counts as wrong.
    """
    from chunker import extras

    extras.require("sklearn", "classifying")
    from chunker.classification import load_classifier
    from chunker.classification.evaluation import evaluate as measure
    from chunker.classification.labelled import read_labelled

    model = load_classifier(model_path)
    found = measure(model, *read_labelled(labelled))
    document = {
        "model": model_path,
        "cases": found.cases,
        "accuracy": round(found.accuracy, 6),
        "macro_f1": round(found.macro_f1, 6),
        "event_share": round(found.event_share, 6),
        "classes": found.classes,
        "confusion": found.confusion.tolist(),
    }
    if as_json:
        print_json(document)
        return
    click.echo(
        f"{found.cases:,} cases: accuracy {found.accuracy:.4f}, macro F1 {found.macro_f1:.4f}, "
        f"{found.event_share:.2%} of the inputs reach the top"
    )
    names = [files.shown(name) for name in found.classes]
    if len(names) <= 20:
        rows = zip(names, found.confusion, strict=True)
        print_table(["<truth", *names], [[name, *map(str, row)] for name, row in rows])


def _cases(path: str, lines: bool) -> list[Any]:
    """The sequences of a file, without labels: a .ts file's, else its bytes, or one for each line."""
    from chunker.classification.labelled import is_vectors, read_vectors, without_mark

    if is_vectors(path):
        return list(read_vectors(path)[0])
    with files.open_source(path, named_target=True) as source:
        data = source.stream.read()
    return without_mark(data, path).splitlines() if lines else [data]
