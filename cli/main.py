"""The command `chunker`: a group whose commands are imported only when they are called."""

from __future__ import annotations

import importlib
from typing import NoReturn

import click

from chunker.cli import options
from chunker.cli.guard import HELP_OPTIONS, GuardedGroup, run

# Command -> its one line in `chunker --help`, so that the help imports none of them.
COMMANDS = {
    "compress": "Compress files.",
    "decompress": "Decompress archives.",
    "test": "Check that archives can be decompressed.",
    "list": "Show sizes, blocks and models of archives.",
    "models": "Show the built-in models, or model files.",
    "bench": "Compare with xz, PPMd, zpaq and others on files of yours.",
    "train": "Train a stack on text of yours.",
    "distill": "Train a student on text and on a teacher.",
    "plot": "Draw the curves of training runs.",
    "evaluate": "Measure bits per byte of a model on files.",
    "average": "Write the mean of models trained from one beginning.",
    "quantize": "Write the integer model of a trained one.",
    "experiment": "Run one of the method's experiments.",
    "classify": "Tell classes of sequences apart.",
    "records": "Small records, each decodable alone.",
    "surprise": "Bits of each character or line, in colours or as a page.",
}


class LazyGroup(GuardedGroup):
    """Commands of `COMMANDS`: in the module of that name a click command of that name
    (`list_command` for list)"""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table, which is that of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command; None if there is none of that name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"chunker.cli.{cmd_name}")
        command = getattr(module, "list_command" if cmd_name == "list" else cmd_name)
        return command if isinstance(command, click.Command) else None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in --help, from the table alone."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=LazyGroup, context_settings=HELP_OPTIONS)
@options.version_option
def chunker() -> None:
    """Compress files: contexts learn them as they are read, and where these are unsure a stack of recurrent
    predictors wakes, each fed only what the one below did not predict.

    `chunker compress README.md` writes README.md.nhc, `chunker decompress README.md.nhc` gives it back.
    `nhc` is a second command in gzip's shape, for pipes and for `tar -I nhc`.

    Completion for bash (or zsh, fish): eval "$(_CHUNKER_COMPLETE=bash_source chunker)"
    """


def main() -> NoReturn:
    """Entry point of `chunker`."""
    run(chunker, "chunker")
