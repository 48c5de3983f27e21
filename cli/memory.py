"""--memory: how much the process may take, whatever an archive or a model asks for."""

from __future__ import annotations

import sys

import click

from chunker.codec.executor import worker_count

# A block of 4 MiB needs at most 113 MB of tables (all contexts), and two blocks for each thread wait, as
# content and as payload. The rest is Python, a model and what the compressor reads ahead.
THREAD_BYTES = 140_000_000
OTHER_BYTES = 100_000_000
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


def _size(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    number, unit = value.upper().removesuffix("B"), ""
    if number[-1:] in _UNITS:
        number, unit = number[:-1], number[-1:]
    try:
        size = int(float(number) * _UNITS[unit])
    except (ValueError, OverflowError):
        raise click.BadParameter(f"{value!r} is no size; write it like 500M or 2G") from None
    if size < THREAD_BYTES + OTHER_BYTES:
        least = (THREAD_BYTES + OTHER_BYTES) // 10**6
        raise click.BadParameter(f"{value} is too little; a thread and what else is needed take {least}M")
    return size


option = click.option(
    "--memory",
    callback=_size,
    metavar="LIMIT",
    help="The most memory to take, like 500M; fewer threads then work. [default: 100M, and 140M a thread]",
)


def threads_within(limit: int, threads: int | None) -> int:
    """How many threads may work, of those that were asked for, and on Linux hold the process to the limit."""
    if sys.platform == "linux":
        import resource

        hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        soft = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
    return min(worker_count(threads), (limit - OTHER_BYTES) // THREAD_BYTES)
