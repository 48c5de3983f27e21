"""What each context and each part of the mixture is worth: `python -m chunker.core.ablation FILE...`

Codes every file with all contexts, then once without each of them, and prints by how many per cent the payload grows.
ABLATIONS.md shows the table. Needs the native library: a run codes each file some seventy times.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from chunker.core.backend import Contexts, Progress, Settings, Stop
from chunker.core.native import NativeBackend, load
from chunker.core.reference.contexts import Context
from chunker.errors import ChunkerError, UsageError

PARTS = (
    "what bit histories say",
    "runs",
    "histories that saw one kind of bit, as inputs of their own",
    "probabilities beside odds",
    "matches",
    "matches that go on after a miss",
    "direct probabilities",
    "set by the recurrent levels",
    "set by classes",
    "set by orders",
    "set by the third last byte",
    "set by the last byte's class",
    "set by lengths",
    "set by fields",
    "second final mixer",
    "map by the last byte",
    "map by three bytes",
    "map by the match",
    "map by the line's template",
    "map by the recurrent levels",
    "no training at small errors",
)
"""Names of the bits of `without_parts`, lowest first (level0.h)."""


def payload_bytes(core: NativeBackend, content: bytes, without_contexts: int = 0, without_parts: int = 0) -> int:
    """The size of a block's payload, all contexts but those left out, no recurrent level."""
    settings = Settings(Contexts.ALL, 0)
    return core.trace(content, settings, None, Stop(), Progress(), without_contexts, without_parts).payload_bytes


def ablate(contents: list[bytes], threads: int = 1) -> dict[str, list[float]]:
    """Per part left out, how much larger each content's payload becomes, in per cent.

    Raises
    ------
    UsageError: there is no native library.
    """
    cores = load()
    if not cores:
        raise UsageError("ablations need the native library: install chunker where there is a compiler")
    runs = {context.name.lower(): (1 << context, 0) for context in Context}
    runs |= {name: (0, 1 << bit) for bit, name in enumerate(PARTS)}
    with ThreadPoolExecutor(threads) as pool:
        whole = list(pool.map(lambda content: payload_bytes(cores[0], content), contents))
        waiting = {
            name: [pool.submit(payload_bytes, cores[0], content, *without) for content in contents]
            for name, without in runs.items()
        }
        return {
            name: [100 * (run.result() / size - 1) for run, size in zip(results, whole, strict=True)]
            for name, results in waiting.items()
        }


def main(arguments: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m chunker.core.ablation", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, help="files; of each at most --bytes are read")
    parser.add_argument("--bytes", type=int, default=100_000, help="of each file (default 100000)")
    parser.add_argument("--threads", type=int, default=2, help="files at a time (default 2)")
    chosen = parser.parse_args(arguments)
    try:
        contents = [path.read_bytes()[: chosen.bytes] for path in chosen.files]
        table = ablate(contents, chosen.threads)
    except (OSError, ChunkerError) as error:
        print(f"ablation: {error}", file=sys.stderr)
        return 1
    print("| without | " + " | ".join(path.name for path in chosen.files) + " |")
    print("|---" * (len(contents) + 1) + "|")
    for name, growth in table.items():
        print(f"| {name} | " + " | ".join(f"{per_cent:+.2f}" for per_cent in growth) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
