"""`chunker records`: files of records, any of which can be read alone."""

from __future__ import annotations

import contextlib
import re
import sys
import time
from typing import TYPE_CHECKING, Any, BinaryIO

import click

from chunker.cli import files, options
from chunker.cli.guard import GuardedGroup, each_file, leave
from chunker.cli.progress import Progress
from chunker.cli.report import Figures, Outcome, number, print_json, print_table, rounded
from chunker.errors import UsageError

if TYPE_CHECKING:
    from chunker.benchmark.records import Comparison, Measured
    from chunker.records.container import RecordFile
    from chunker.records.splitting import Rule

SUFFIX = ".nhr"
NONE_FOUND = 1  # as grep

file_argument = click.argument("path", metavar="FILE", type=click.Path(readable=False))
packed_argument = click.argument("path", metavar="PACKED", type=click.Path(readable=False))
model_option = click.option(
    "-m",
    "--model",
    type=click.Path(readable=False),
    metavar="MODEL",
    help="The model's file. [default: the one that PACKED names, beside it or here]",
)
records_option = click.option(
    "--records", "rule_name", metavar="RULE", help="How FILE is cut: lines, json, json:KEY or a separator."
)


@click.group("records", cls=GuardedGroup, short_help="Small records, each decodable alone.")
def records() -> None:
    """Pack messages, rows or log lines with a model of their domain, and read any of them alone.

    `chunker train --records lines SAMPLE -o MODEL` makes the model.
    """


@records.command(short_help="Encode the records of a file.")
@file_argument
@click.option(
    "-m", "--model", required=True, type=click.Path(readable=False), metavar="MODEL", help="The model's file."
)
@options.output_option
@options.force_option
@click.option(
    "--check", type=click.IntRange(0, 2), default=0, show_default=True, help="Bytes of checksum a record."
)
@records_option
@options.threads_option
@options.quiet_option
@options.json_option
def pack(
    path: str,
    model: str,
    output: str | None,
    force: bool,
    check: int,
    rule_name: str | None,
    threads: int | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Encode each record of FILE with MODEL, on all cores, and write FILE.nhr.

    The records of a JSON array are written as JSON lines; any other file comes back byte for byte.
    """
    from chunker.records.codec import RecordCodec
    from chunker.records.container import write
    from chunker.records.model import load_record_model
    from chunker.records.splitting import Records

    found = load_record_model(model)
    rule = _rule(rule_name, found.config.rule)
    if rule.key is not None:
        raise UsageError(
            f"the texts at {rule.key!r} alone would not give the file back; pack with --records json"
        )
    if as_json and output == files.STANDARD:
        raise UsageError("--json and data cannot both go to standard output; name the output with -o")
    codec = RecordCodec(found, check=check, workers=threads)

    def one(path: str) -> None:
        begun = time.perf_counter()
        with files.open_source(path, named_target=output is not None) as source:
            name = output or files.target_for_compressing(path, SUFFIX)
            with files.open_target(name, source, force=force, named=output is not None) as target:
                files.refuse_terminal_output(target, force)
                split = Records(source.stream, rule)
                with contextlib.closing(Progress(path, source.size, quiet=quiet)) as bar:
                    written = write(
                        target, split, codec, rule.separator, ended=lambda: split.ended, advance=bar.advance
                    )
        figures = Figures(written.bytes_in, written.bytes_out)
        outcome = Outcome(path, figures, time.perf_counter() - begun, target=name, model=found.name)
        if as_json:
            print_json({**outcome.to_json(), "records": written.records})
        elif not quiet:
            line = f"{outcome.line()}, {written.records:,} records"
            click.echo(line, err=files.is_standard_output(name))

    leave(each_file([path], one))


@records.command(short_help="Decode all records.")
@packed_argument
@model_option
@options.output_option
@options.stdout_option
@options.force_option
@options.threads_option
def unpack(
    path: str, model: str | None, output: str | None, stdout: bool, force: bool, threads: int | None
) -> None:
    """Decode all records of PACKED on all cores, and write the file that was packed."""

    def one(path: str) -> None:
        name = options.output_of(output, stdout) or files.target_for_decompressing(path, SUFFIX)
        with (
            files.open_source(path) as source,
            files.open_target(name, source, force=force, named=True) as target,
        ):
            packed = _packed(source, model, threads)
            separator, left = packed.header.separator, len(packed)
            for batch in packed.each_block(lambda first, records: records):
                left -= len(batch)
                target.write(separator.join(batch))
                if left or packed.ended:
                    target.write(separator)

    leave(each_file([path], one))


@records.command(short_help="Print records by number.")
@packed_argument
@click.argument("numbers", metavar="NUMBER...", nargs=-1, required=True)
@model_option
def get(path: str, numbers: tuple[str, ...], model: str | None) -> None:
    """Print records of PACKED: 7 is the eighth one, 100:200 are a hundred, as in Python.

    Negative numbers, which count from the end, follow `--`. Each record is followed by what stood between
    them.
    """
    wanted = [_number(text) for text in numbers]

    def one(path: str) -> None:
        with files.open_source(path) as source:
            packed = _packed(source, model, None)
            out, separator = sys.stdout.buffer, packed.header.separator
            for each, text in zip(wanted, numbers, strict=True):
                try:
                    found = packed[each] if isinstance(each, slice) else [packed[each]]
                except IndexError:
                    there = f"there are {len(packed):,}, from 0 on"
                    raise UsageError(f"there is no record {text}: {there}") from None
                for record in found:
                    out.write(record + separator)

    leave(each_file([path], one))


def _number(text: str) -> int | slice:
    """`7` or `100:200`. Raises click.UsageError."""
    try:
        if ":" not in text:
            return int(text)
        first, last = text.split(":")
        return slice(int(first) if first else None, int(last) if last else None)
    except ValueError:
        raise click.UsageError(f"{text!r} is no number of a record; write 7 or 100:200") from None


@records.command(short_help="Print the records that match.")
@click.argument("pattern")
@packed_argument
@model_option
@click.option("-n", "--number", "numbered", is_flag=True, help="Print each record's number before it.")
@click.option("-i", "--ignore-case", is_flag=True, help="Capital and small letters are the same.")
@click.option("-v", "--invert", is_flag=True, help="Print the records that do not match.")
@click.option("-F", "--fixed", is_flag=True, help="PATTERN is a text, not a regular expression.")
@click.option("-c", "--count", is_flag=True, help="Print only how many there are.")
@options.threads_option
def grep(
    pattern: str,
    path: str,
    model: str | None,
    numbered: bool,
    ignore_case: bool,
    invert: bool,
    fixed: bool,
    count: bool,
    threads: int | None,
) -> None:
    """Print the records of PACKED in which PATTERN is found, a regular expression of Python.

    All are decoded, on all cores, and printed as they come. Where there is none, the exit code is 1, as
    grep's.
    """
    text = pattern.encode("utf-8", "surrogateescape")
    try:
        search = re.compile(re.escape(text) if fixed else text, re.IGNORECASE if ignore_case else 0).search
    except re.error as error:
        raise UsageError(
            f"the pattern {pattern!r} makes no sense ({error}); -F looks for it as it is"
        ) from None

    def matching(first: int, records: list[bytes]) -> list[tuple[int, bytes]]:
        return [each for each in enumerate(records, first) if bool(search(each[1])) != invert]

    n_found = 0

    def one(path: str) -> None:
        nonlocal n_found
        with files.open_source(path) as source:
            packed = _packed(source, model, threads)
            out, separator = sys.stdout.buffer, packed.header.separator
            for found in packed.each_block(matching):
                n_found += len(found)
                for place, record in [] if count else found:
                    out.write((b"%d:" % place if numbered else b"") + record + separator)
                out.flush()

    leave(each_file([path], one))
    if count:
        click.echo(n_found)
    if not n_found:
        click.get_current_context().exit(NONE_FOUND)


@records.command(short_help="Measure a model on files of records.")
@click.argument("model", metavar="MODEL", type=click.Path(readable=False))
@options.files_argument
@click.option(
    "--check", type=click.IntRange(0, 2), default=0, help="Bytes of checksum a record. [default: 0]"
)
@records_option
@options.threads_option
@options.json_option
def evaluate(
    model: str, paths: tuple[str, ...], check: int, rule_name: str | None, threads: int | None, as_json: bool
) -> None:
    """Encode and decode the records of every FILE with MODEL, each alone, and compare.

    Speeds are records a second of CPU time: the speed of one core. Bytes are those of the records, without
    what stands between them.
    """
    from chunker.benchmark.records import measure
    from chunker.records.codec import RecordCodec

    codec = RecordCodec(model, check=check, workers=threads)
    rule = _rule(rule_name, codec.model.config.rule)
    found: list[tuple[str, Measured]] = []
    failures = each_file(paths, lambda path: found.append((path, measure(codec, _read(path, rule)[0]))))
    if as_json:
        head = {"model": codec.model.name, "id": codec.model.id.hex(), "check": check}
        each = [{"name": path, **_to_json(measured)} for path, measured in found]
        print_json({**head, "files": each, "errors": failures})
    elif found:
        columns = ("<file", "records", "bytes", "encoded", "bits/byte", "encoded/s", "decoded/s", "load s")
        print_table(columns, [_row(path, measured) for path, measured in found])
    leave(failures)


@records.command(short_help="Compare with deflate and zstd and their dictionaries.")
@options.files_argument
@records_option
@click.option("--sample", type=click.IntRange(1), metavar="BYTES", help="Largest sample. [default: 1 MiB]")
@click.option("--net", metavar="MODEL", help="Also try this model's net: small, text, or a file.")
@options.threads_option
@options.json_option
def bench(
    paths: tuple[str, ...],
    rule_name: str | None,
    sample: int | None,
    net: str | None,
    threads: int | None,
    as_json: bool,
) -> None:
    """Train a model on nine tenths of the records of every FILE, and measure it on the others.

    Beside it stand deflate with a preset dictionary and zstd with a trained one (pip install zstandard),
    made of the same records; both without headers. Half of the records that are measured are the last ones.
    Without --records, what a file's records are is guessed: JSON by its suffix, paragraphs where there are
    blank lines, else lines.
    """
    from chunker.benchmark.records import compare
    from chunker.models import load_model
    from chunker.records.model import MAX_SAMPLE_BYTES

    rows: list[tuple[str, Comparison]] = []
    model = None if net is None else load_model(net)

    def one(path: str) -> None:
        found, rule = _read(path, None if rule_name is None else _rule(rule_name, None))
        most = min(sample or MAX_SAMPLE_BYTES, MAX_SAMPLE_BYTES)
        rows.append((path, compare(found, rule, max_sample=most, net=model, workers=threads)))

    failures = each_file(paths, one)
    if as_json:
        print_json({"files": [_comparison_to_json(*row) for row in rows], "errors": failures})
    elif rows:
        rivals = list(rows[0][1].rivals)
        columns = (
            "<file",
            "records",
            "bits/byte",
            *rivals,
            "of the best",
            "<how",
            "sample",
            "file",
            "enc/s",
            "dec/s",
        )
        print_table(columns, [_comparison_row(path, found, rivals) for path, found in rows])
    leave(failures)


def _rule(name: str | None, other: Rule | None) -> Rule:
    """The rule that was asked for, or else the model's."""
    from chunker.records.splitting import LINES, rule_of

    return rule_of(name) if name is not None else other or LINES


def _read(path: str, rule: Rule | None) -> tuple[list[bytes], Rule]:
    """The records of a file, and the rule by which they were cut; None: the one that is likely."""
    from chunker.records.splitting import likely_rule, split

    with files.open_source(path, named_target=True) as source:
        data = source.stream.read()
    rule = rule or likely_rule(path, data)
    return split(data, rule), rule


def _packed(source: files.Source, model: str | None, threads: int | None) -> RecordFile:
    import io
    from pathlib import Path

    from chunker.records.container import RecordFile

    stream: BinaryIO = source.stream
    if source.status is None or not stream.seekable():
        stream = io.BytesIO(stream.read())
    folder = None if source.status is None else Path(source.path).parent
    return RecordFile(stream, model, folder=folder, workers=threads)


def _to_json(found: Measured) -> dict[str, Any]:
    return {
        "records": found.records,
        "bytes_in": found.bytes_in,
        "bytes_out": found.bytes_out,
        "bits_per_char": rounded(found.bits_per_byte, 4),
        "load_seconds": round(found.load_seconds, 3),
        "encoded_per_second": rounded(found.encoded_per_second, 1),
        "decoded_per_second": rounded(found.decoded_per_second, 1),
    }


def _row(path: str, found: Measured) -> list[str]:
    return [
        files.shown(path),
        f"{found.records:,}",
        f"{found.bytes_in:,}",
        f"{found.bytes_out:,}",
        number(found.bits_per_byte, 3),
        number(found.encoded_per_second, 0),
        number(found.decoded_per_second, 0),
        number(found.load_seconds, 2),
    ]


def _how(found: Comparison) -> str:
    config = found.model.config
    if config.method != "contexts":
        return config.method
    return config.contexts.name.lower() + (" and net" if config.gate else "")


def _comparison_row(path: str, found: Comparison, rivals: list[str]) -> list[str]:
    measured = found.measured
    return [
        files.shown(path),
        f"{measured.records:,}",
        number(measured.bits_per_byte, 3),
        *(number(found.rivals[name], 3) for name in rivals),
        number(found.gain, 2),
        _how(found),
        f"{len(found.model.sample):,}",
        f"{found.model_bytes:,}",
        number(measured.encoded_per_second, 0),
        number(measured.decoded_per_second, 0),
    ]


def _comparison_to_json(path: str, found: Comparison) -> dict[str, Any]:
    return {
        "name": path,
        **_to_json(found.measured),
        "rivals_bits_per_char": {name: rounded(bits, 4) for name, bits in found.rivals.items()},
        "of_the_best": rounded(found.gain, 4),
        "method": _how(found),
        "sample_bytes": len(found.model.sample),
        "model_bytes": found.model_bytes,
    }
