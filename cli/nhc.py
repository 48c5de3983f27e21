"""The command `nhc`: gzip's shape, for pipes and for `tar -I nhc`."""

from __future__ import annotations

from typing import NoReturn

import click

from chunker.cli import options
from chunker.cli.files import STANDARD
from chunker.cli.guard import HELP_OPTIONS, GuardedCommand, each_file, leave, run
from chunker.cli.work import Job, Worker

_LONG_LEVELS = {"--fast": "1", "--best": "9"}
_OPTIONS = {**dict.fromkeys("123", "--fast"), **dict.fromkeys("789", "--best")}
_SHORT_WITH_VALUE = "omT"
_LONG_WITH_VALUE = {"--output", "--model", "--threads"}


class GzipShaped(GuardedCommand):
    """Takes gzip's levels out of the arguments before click sees them: click reads `-19` as `-1 -9`."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; levels 1 to 3 are --fast, 7 to 9 --best."""
        return super().parse_args(ctx, list(without_levels(args)))


def without_levels(args: list[str]) -> list[str]:
    """The arguments without `-1` ... `-9`, `--fast` and `--best`, also inside of flags as in `-9c`; in front
    of them what the last level means.

    Raises
    ------
    click.UsageError: a number that is no level of gzip's, as in `-19`.
    """
    kept, last = [], ""
    rest = iter(args)
    for arg in rest:
        if arg == "--":
            kept.append(arg)
            break
        if arg in _LONG_LEVELS:
            last = _LONG_LEVELS[arg]
            continue
        if arg.startswith("--") or not arg.startswith("-") or arg == STANDARD:
            kept.append(arg)
            takes_next = arg in _LONG_WITH_VALUE
        else:
            flags, takes_next, level = _without_level(arg)
            last = level or last
            if flags != "-":
                kept.append(flags)
        if takes_next:
            kept.extend(value for value in [next(rest, None)] if value is not None)
    return [*([_OPTIONS[last]] if last in _OPTIONS else []), *kept, *rest]


def _without_level(arg: str) -> tuple[str, bool, str]:
    """One argument such as `-9cT4` without its level; whether its last flag takes the next one; the level."""
    kept, level = "-", ""
    for position, flag in enumerate(arg[1:], start=1):
        if flag in _SHORT_WITH_VALUE:
            return kept + arg[position:], position == len(arg) - 1, level
        if flag.isascii() and flag.isdigit():
            level += flag
            if level == "0" or len(level) > 1:
                raise click.UsageError(f"{arg}: give one level, from -1 to -9")
        else:
            kept += flag
    return kept, False, level


@click.command(
    cls=GzipShaped,
    context_settings=HELP_OPTIONS,
    epilog="-1 to -3 are --fast, -4 to -6 the default, -7 to -9 --best.",
)
@click.argument("paths", metavar="[FILE]...", nargs=-1, type=click.Path(readable=False))
@click.option("-d", "--decompress", "--uncompress", "decompress", is_flag=True, help="Decompress.")
@click.option("-c", "--stdout", "--to-stdout", "stdout", is_flag=True, help="Write to standard output.")
@click.option("-k", "--keep", is_flag=True, help="Keep the sources (the default).")
@options.remove_option
@options.force_option
@options.output_option
@click.option("-t", "--test", is_flag=True, help="Check archives, write nothing.")
@click.option("-l", "--list", "list_", is_flag=True, help="Show what is in archives.")
@click.option("--json", "as_json", is_flag=True, help="With -l: print one JSON document instead.")
@options.model_options
@options.threads_option
@options.preset_options
@click.option("-n", "--no-name", is_flag=True, hidden=True, help="As in gzip: no names or times are stored.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
@click.option("-v", "--verbose", is_flag=True, help="Print a line for each file on standard error.")
@options.version_option
def nhc(
    paths: tuple[str, ...],
    decompress: bool,
    stdout: bool,
    keep: bool,
    remove: bool,
    force: bool,
    output: str | None,
    test: bool,
    list_: bool,
    as_json: bool,
    model: str | None,
    threads: int | None,
    preset: str,
    no_name: bool,
    quiet: bool,
    verbose: bool,
) -> None:
    """Compress every FILE to FILE.nhc, or decompress it with -d; without FILE, or for "-", from standard
    input to standard output.

    The sources stay unless --rm is given, and existing files are not replaced unless -f is.

    tar: `tar -I nhc -cf x.tar.nhc DIR`, `tar -I nhc -xf x.tar.nhc`.
    """
    if keep and remove:
        raise click.UsageError("-k keeps the sources and --rm deletes them; give one of them")
    if list_ + test + remove > 1:
        raise click.UsageError("-l, -t and --rm do not go together")
    if as_json and not list_:
        raise click.UsageError("--json goes with -l; `chunker compress` has it, too")
    job = Job(options.output_of(output, stdout), force, remove, model, threads, quiet, preset)
    job.check(paths)
    paths = paths or (STANDARD,)
    if list_:
        from chunker.cli.list import show_archives

        show_archives(paths, as_json=as_json)
        return
    _work(paths, job, "test" if test else "decompress" if decompress else "compress", verbose and not quiet)


def _work(paths: tuple[str, ...], job: Job, action: str, verbose: bool) -> None:
    worker = Worker(job)
    do = {"test": worker.test, "decompress": worker.decompress, "compress": worker.compress}[action]

    def one(path: str) -> None:
        outcome = do(path)
        if verbose:
            click.echo(outcome.line(), err=True)

    leave(each_file(paths, one))


def main() -> NoReturn:
    """Entry point of `nhc`."""
    run(nhc, "nhc")
