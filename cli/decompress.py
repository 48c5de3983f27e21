"""chunker decompress"""

from __future__ import annotations

import click

from chunker.cli import options
from chunker.cli.work import Job, Worker, report_each, takes_job


@click.command(short_help="Decompress archives.")
@options.files_argument
@options.output_option
@options.stdout_option
@options.force_option
@options.remove_option
@options.model_option
@options.threads_option
@options.quiet_option
@options.json_option
@takes_job
def decompress(paths: tuple[str, ...], job: Job, as_json: bool) -> None:
    """Write FILE for every FILE.nhc; "-" is standard input. With -c -f, what is no archive is just copied.

    The archive stays, and an existing target is an error. The model is found by the archive's fingerprint
    if it is a built-in one; others are named with -m. Prints one line for each file.
    """
    job.check(paths)
    report_each(Worker(job).decompress, paths, job, as_json)
