"""chunker compress"""

from __future__ import annotations

import click

from chunker.cli import memory, options
from chunker.cli.work import Job, Worker, report_each, takes_job


@click.command(short_help="Compress files.")
@options.files_argument
@options.output_option
@options.stdout_option
@options.force_option
@options.remove_option
@options.verify_option
@options.model_options
@options.threads_option
@memory.option
@options.cluster_option
@options.preset_options
@options.quiet_option
@options.json_option
@takes_job
def compress(paths: tuple[str, ...], job: Job, as_json: bool) -> None:
    """Write FILE.nhc for every FILE; "-" is standard input.

    The source stays, and an existing target is an error. Prints one line for each file: its name, bytes
    in, bytes out, their ratio, bits per byte and the model.
    """
    job.check(paths)
    worker = Worker(job)
    with worker.in_place(paths) as at_a_time:
        report_each(worker.compress, paths, job, as_json, at_a_time=at_a_time)
