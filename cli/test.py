"""chunker test"""

from __future__ import annotations

import click

from chunker.cli import memory, options
from chunker.cli.work import Job, Worker, report_each, takes_job


@click.command(short_help="Check that archives can be decompressed.")
@options.files_argument
@options.model_option
@options.threads_option
@memory.option
@options.cluster_option
@options.quiet_option
@options.json_option
@takes_job
def test(paths: tuple[str, ...], job: Job, as_json: bool) -> None:
    """Decompress every FILE without writing anything; "-" is standard input.

    Everything that decompressing would check is checked. In --json, bytes_in is the content's size and
    bytes_out the archive's.
    """
    worker = Worker(job)
    with worker.in_place(paths) as at_a_time:
        report_each(
            worker.test,
            paths,
            job,
            as_json,
            line=lambda outcome: f"{outcome.line()}, OK",
            at_a_time=at_a_time,
        )
