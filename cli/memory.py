"""--memory: how much the process may take, whatever an archive or a model asks for."""

from __future__ import annotations

import sys
from typing import Any

import click

from chunker.codec.pool import worker_count

# A block of 4 MiB needs at most 113 MB of tables (all contexts), and two blocks for each thread wait, as
# content and as payload. The rest is Python, a model and what the compressor reads ahead.
THREAD_BYTES = 140_000_000
OTHER_BYTES = 100_000_000
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9}


class _Size(click.ParamType):
    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        number, unit = value.upper().removesuffix("B"), ""
        if number[-1:] in _UNITS:
            number, unit = number[:-1], number[-1]
        try:
            size = int(float(number) * _UNITS[unit])
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is no size; write it like 500M or 2G", param, ctx)
        if size < THREAD_BYTES + OTHER_BYTES:
            least = (THREAD_BYTES + OTHER_BYTES) // 10**6
            self.fail(f"{value} is too little; a thread and what else is needed take {least}M", param, ctx)
        return size


option = click.option(
    "--memory",
    type=_Size(),
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
