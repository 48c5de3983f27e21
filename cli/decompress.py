"""chunker decompress"""

from __future__ import annotations

import click

from chunker.cli import memory, options
from chunker.cli.work import Job, Worker, report_each, takes_job


@click.command(short_help="Decompress archives.")
@options.files_argument
@options.output_option
@options.stdout_option
@options.force_option
@options.remove_option
@options.model_option
@options.threads_option
@memory.option
@options.cluster_option
@options.quiet_option
@click.option(
    "--salvage", is_flag=True, help="Write what is intact of a damaged archive; tell what is missing."
)
@options.json_option
@takes_job
def decompress(paths: tuple[str, ...], job: Job, salvage: bool, as_json: bool) -> None:
    """Write FILE for every FILE.nhc; "-" is standard input. With -c -f, what is no archive is just copied.

    The archive stays, and an existing target is an error. The model is found by the archive's fingerprint
    if it is a built-in one; others are named with -m. Prints one line for each file.

    With --salvage what is intact is written, one block after the other; a line on standard error tells of
    each stretch that is missing, and the exit code is 2 if there is one.
    """
    job.check(paths)
    if salvage and job.remove:
        raise click.UsageError("--salvage and --rm do not go together: the archive may hold more")
    if salvage and job.cluster is not None:
        raise click.UsageError("--salvage looks for blocks one after the other; leave --cluster out")
    worker = Worker(job)
    with worker.in_place(paths) as at_a_time:
        report_each(
            worker.salvage if salvage else worker.decompress, paths, job, as_json, at_a_time=at_a_time
        )
