"""What each context and each part of the mixture is worth: by how much a payload grows without it.

`chunker bench --ablation` prints it; ABLATIONS.md shows the table. Needs the native library: each content is
coded some sixty times.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from chunker.core.backend import Contexts, Progress, Settings, Stop
from chunker.core.native import NativeBackend, load
from chunker.core.reference.contexts import Context
from chunker.errors import UsageError

PARTS = (
    "runs",
    "histories that saw one kind of bit",
    "probabilities of histories",
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


def _bits(core: NativeBackend, content: bytes, without_contexts: int = 0, without_parts: int = 0) -> float:
    """Bits that a block costs with all contexts but those left out, without recurrent levels."""
    session = core.session(
        Settings(Contexts.ALL, 0),
        None,
        len(content),
        Stop(),
        Progress(),
        without_contexts=without_contexts,
        without_parts=without_parts,
    )
    return sum(session.read(content).bits)


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
        whole = list(pool.map(lambda content: _bits(cores[0], content), contents))
        waiting = {
            name: [pool.submit(_bits, cores[0], content, *without) for content in contents]
            for name, without in runs.items()
        }
        return {
            name: [100 * (run.result() / size - 1) for run, size in zip(results, whole, strict=True)]
            for name, results in waiting.items()
        }
