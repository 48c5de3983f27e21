"""Options and arguments that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from chunker.errors import ChunkerError
from chunker.version import __version__

Callback = TypeVar("Callback", bound=Callable[..., Any])
SEEDS = click.IntRange(0, 2**32 - 1)  # those that every generator takes
NO_MODEL = "\0"  # in place of a model's name, and none that one could have: contexts alone


def complete_model(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """For the shell: the names of built-in models, and its own completion of files."""
    from chunker.models import builtin_models

    names = [CompletionItem(name) for name in builtin_models() if name.startswith(incomplete)]
    return [*names, CompletionItem(incomplete, type="file")]


def _threads(ctx: click.Context, param: click.Parameter, value: int | None) -> int | None:
    return value or None  # 0 means all cores, as in xz


def _named(ctx: click.Context, param: click.Parameter, value: str | None) -> str | None:
    if value == "":
        raise click.BadParameter("an empty name; give a file or leave the option out")
    return value


def _preset(ctx: click.Context, param: click.Parameter, value: str | None) -> str:
    return value or "default"


def show_version(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    """Print the program's name and version and what codes, and exit."""
    if not value or ctx.resilient_parsing:
        return
    from chunker.core.backend import backend

    try:
        click.echo(f"{ctx.find_root().info_name} {__version__} ({backend().name})")
    except ChunkerError as error:
        raise click.UsageError(str(error), ctx) from None
    ctx.exit()


version_option = click.option(
    "-V",
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=show_version,
    help="Show the version and exit.",
)
model_option = click.option(
    "-m",
    "--model",
    callback=_named,
    shell_complete=complete_model,
    metavar="MODEL",
    help="A built-in model's name or a model file.",
)


def model_options(command: Callback) -> Callback:
    """-m and --no-model, which both give `model`."""
    no_model = click.option(
        "--no-model",
        "model",
        flag_value=NO_MODEL,
        help="Contexts alone: nothing that was learnt beforehand.",
    )
    return model_option(no_model(command))


threads_option = click.option(
    "-T",
    "--threads",
    type=click.IntRange(min=0),
    callback=_threads,
    metavar="N",
    help="Threads to use; 0 or left out: as many as there are cores. The output does not depend on it.",
)
cluster_option = click.option(
    "--cluster",
    callback=_named,
    metavar="ADDRESS",
    help="Code on the workers of a dask.distributed scheduler, like tcp://scheduler:8786. The output does "
    "not depend on it.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead.")


def preset_options(command: Callback) -> Callback:
    """--fast and --best, which give `preset`."""
    help_of = {
        "fast": "Few contexts and a small net: more than twice as fast, larger archives.",
        "best": "All contexts, and the net at every byte: slower, smaller archives.",
    }
    for name in ("best", "fast"):
        # a default would count as the flag's value in click before 8.3
        option = click.option(f"--{name}", "preset", flag_value=name, callback=_preset, help=help_of[name])
        command = option(command)
    return command


quiet_option = click.option("-q", "--quiet", is_flag=True, help="Print nothing but errors.")
force_option = click.option(
    "-f", "--force", is_flag=True, help="Replace existing files, and let archives go to a terminal."
)
remove_option = click.option(
    "--rm", "remove", is_flag=True, help="Delete each source once its result is complete."
)
verify_option = click.option(
    "--verify/--no-verify",
    default=None,
    help="Decode what was written, and compare, before it counts as done; --rm does so by itself.",
)
output_option = click.option(
    "-o",
    "--output",
    type=click.Path(),
    callback=_named,
    metavar="FILE",
    help='Where the result goes; "-" for standard output.',
)
stdout_option = click.option("-c", "--stdout", is_flag=True, help="Write to standard output.")
files_argument = click.argument(
    "paths", metavar="FILE...", nargs=-1, required=True, type=click.Path(readable=False)
)


def output_of(output: str | None, stdout: bool) -> str | None:
    """Join -o and -c.

    Raises
    ------
    click.UsageError: both are given and differ.
    """
    if stdout and output not in (None, "-"):
        raise click.UsageError("-o and -c name two different outputs; give one of them")
    return "-" if stdout else output
