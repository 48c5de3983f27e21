"""The command `nhc`: gzip's shape, for pipes and for `tar -I nhc`."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import NoReturn

import click

from chunker.cli import files, options
from chunker.cli.files import STANDARD
from chunker.cli.guard import HELP_OPTIONS, WARNING, GuardedCommand, each_file, leave, run
from chunker.cli.work import Job, Lines, Worker, takes_job

_LONG_LEVELS = {"--fast": "1", "--best": "9"}
_OPTIONS = {**dict.fromkeys("123", "--fast"), **dict.fromkeys("789", "--best")}


class GzipShaped(GuardedCommand):
    """Reads what click does not: levels such as `-9`, also within `-9c`, and abbreviated long options."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; levels 1 to 3 are --fast, 7 to 9 --best."""
        return super().parse_args(ctx, as_click_reads(args, self))


def as_click_reads(args: list[str], command: click.Command) -> list[str]:
    """The arguments with long options in full, and without levels (`-1` ... `-9`, `--fast`, `--best`); in
    front of them what the last level means.

    Raises
    ------
    click.UsageError: a number that is no level of gzip's, as in `-19`; an abbreviation of several options.
    """
    every = [param for param in command.params if isinstance(param, click.Option)]
    takes_value = {name for param in every if not param.is_flag for name in param.opts}
    long = {name: str(param.name) for param in every for name in param.opts if name.startswith("--")}
    kept, last = [], ""
    rest = iter(args)
    for arg in rest:
        if arg == "--":
            kept.append(arg)
            break
        name, flags, level = arg, [arg], ""
        if arg.startswith("--"):
            name, *value = arg.split("=", 1)
            name = _in_full(name, {**long, "--help": "help"})
            level = _LONG_LEVELS.get(name, "")
            flags = [] if level else ["=".join([name, *value])]
            name = "" if value else name
        elif arg.startswith("-") and arg != STANDARD:
            left, name, level = _without_level(arg, takes_value)
            flags = [left] if left != "-" else []
        last = level or last
        kept.extend(flags)
        if name in takes_value:
            kept.extend(value for value in [next(rest, None)] if value is not None)
    return [*([_OPTIONS[last]] if last in _OPTIONS else []), *kept, *rest]


def _in_full(name: str, long: Mapping[str, str]) -> str:
    """The long option that a name means. long: option -> its parameter; several names may stand for one."""
    found = [option for option in long if option.startswith(name)]
    if name in long or not found:
        return name
    if len({long[option] for option in found}) > 1:
        raise click.UsageError(f"option {name} is ambiguous: {', '.join(sorted(found))}")
    return found[0]


def _without_level(arg: str, takes_value: set[str]) -> tuple[str, str, str]:
    """One argument such as `-9cT4` without its level; its last flag, if this takes the next argument;
    the level."""
    kept, level = "-", ""
    for position, flag in enumerate(arg[1:], start=1):
        if f"-{flag}" in takes_value:
            return kept + arg[position:], f"-{flag}" if position == len(arg) - 1 else "", level
        if flag.isascii() and flag.isdigit():
            level += flag
            if level == "0" or len(level) > 1:
                raise click.UsageError(f"{arg}: give one level, from -1 to -9")
        else:
            kept += flag
    return kept, "", level


def _suffix(ctx: click.Context, param: click.Parameter, value: str) -> str:
    if not value or "/" in value or os.sep in value:
        raise click.BadParameter(f"{value!r} is no suffix; give one like {files.SUFFIX}")
    return value


@click.command(
    cls=GzipShaped,
    context_settings=HELP_OPTIONS,
    epilog="-1 to -3 are --fast, -4 to -6 the default, -7 to -9 --best.",
)
@click.argument("paths", metavar="[FILE]...", nargs=-1, type=click.Path(readable=False))
@click.option("-d", "--decompress", "--uncompress", "decompress", is_flag=True, help="Decompress.")
@click.option("-c", "--stdout", "--to-stdout", "stdout", is_flag=True, help="Write to standard output.")
@click.option("-k", "--keep", is_flag=True, help="Keep the sources (the default).")
@click.option("-r", "--recursive", is_flag=True, help="Of a directory, work on the files in it and below.")
@click.option(
    "-S", "--suffix", default=files.SUFFIX, callback=_suffix, metavar=".SUF", help="Use this suffix for .nhc."
)
@options.remove_option
@options.verify_option
@options.force_option
@options.output_option
@click.option("-t", "--test", is_flag=True, help="Check archives, write nothing.")
@click.option("-l", "--list", "list_", is_flag=True, help="Show what is in archives.")
@click.option("--json", "as_json", is_flag=True, help="With -l: print one JSON document instead.")
@options.model_options
@options.threads_option
@options.preset_options
@click.option("-n", "--no-name", is_flag=True, hidden=True, help="As in gzip: no names or times are stored.")
@click.option(
    "-q", "--quiet", "--silent", "quiet", is_flag=True, help="Print nothing but errors, no warnings."
)
@click.option("-v", "--verbose", is_flag=True, help="Print a line for each file on standard error.")
@options.version_option
@takes_job
def nhc(
    paths: tuple[str, ...],
    job: Job,
    decompress: bool,
    keep: bool,
    recursive: bool,
    test: bool,
    list_: bool,
    as_json: bool,
    no_name: bool,
    verbose: bool,
) -> None:
    """Compress every FILE to FILE.nhc, or decompress it with -d; without FILE, or for "-", from standard
    input to standard output.

    The sources stay unless --rm is given, and existing files are not replaced unless -f is. With -dcf, files
    that are no archives are copied as they are. Exit codes are gzip's: 0 done, 1 an error, 2 a warning.

    tar: `tar -I nhc -cf x.tar.nhc DIR`, `tar -I nhc -xf x.tar.nhc`.
    """
    if keep and job.remove:
        raise click.UsageError("-k keeps the sources and --rm deletes them; give one of them")
    if list_ + test + job.remove > 1:
        raise click.UsageError("-l, -t and --rm do not go together")
    if as_json and not list_:
        raise click.UsageError("--json goes with -l; `chunker compress` has it, too")
    action = "list" if list_ else "test" if test else "decompress" if decompress else "compress"
    paths = paths or (STANDARD,)
    found = [*_below(paths, job, action)] if recursive else [*paths]
    job.check(found)
    if list_:
        from chunker.cli.list import show_archives

        leave(show_archives(found, as_json=as_json, quiet=job.quiet, suffix=job.suffix), WARNING)
        return
    _work(found, job, action, verbose and not job.quiet)


def _below(paths: tuple[str, ...], job: Job, action: str) -> Iterator[str]:
    """The paths, and in place of directories the files in them that the action is for."""
    for path in paths:
        for each in files.files_below(path):
            if each == path or files.has_suffix(each, job.suffix) == (action != "compress"):
                yield each


def _work(paths: list[str], job: Job, action: str, verbose: bool) -> None:
    worker = Worker(job)
    do = {"test": worker.test, "decompress": worker.decompress, "compress": worker.compress}[action]
    lines = Lines(err=True)

    def one(path: str) -> None:
        outcome = do(path)
        if verbose:
            lines.print(f"{outcome.line()}, OK" if action == "test" else outcome.line())
        if outcome.warning is not None:
            raise outcome.warning

    leave(each_file(paths, one, quiet=job.quiet), WARNING)
    lines.close()


def main() -> NoReturn:
    """Entry point of `nhc`."""
    run(nhc, "nhc")
