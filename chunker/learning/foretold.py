"""What level 0 knows of a text, found once: where recurrent levels wake, and how probable it holds each bit.

Recurrent levels are trained as they run in an archive: on the bytes at which they wake, and through the
mixture (chunker.learning.woken). Level 0 does not depend on them, so that its part of that is computed once
for a corpus and kept in a folder:

    text --session of the core--> per byte: wakes? --yes--> a record of `STEP`

The folder holds, for each text, its bytes cut into blocks (each is coded alone, as in archives, so that level
0 starts cold in it) and a record for each byte at which level 1 wakes. A folder that was begun is gone on
with.
"""

from __future__ import annotations

import glob
import io
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chunker.config import canonical_json
from chunker.core.backend import Progress, Settings, Stop, backend
from chunker.errors import CorpusError
from chunker.learning.corpus import Strip
from chunker.learning.ngrams import word_keys_before
from chunker.wholefile import write_whole

Bytes = npt.NDArray[np.uint8]
Integers = npt.NDArray[np.int64]

STEP = np.dtype(
    [
        ("position", "<u4"),  # in the text
        ("woke", "u1"),  # the number, from 0, of the first bit that the levels are asked for
        ("guess", "u1"),  # the byte that level 0 held for the likeliest; 0 where its confidence is 0
        ("confidence", "u1"),  # 0 .. 15; 0: it had no guess
        ("unused", "u1"),
        ("probability", "<u2", (8,)),  # of a 1, before each bit, 65536 to 1
    ]
)
"""What is kept of a byte at which the recurrent levels wake."""

SMALLEST_BLOCK, LARGEST_BLOCK = 1 << 14, 1 << 20  # bytes; sizes between them are drawn, log-uniformly
_FILES = ("text", "steps", "blocks")


@dataclass(frozen=True)
class Foretold:
    """One text. place: its folder. text: (n,) bytes. steps: (k,) of `STEP`. blocks: (m, 2), where each block
    ends in both.
    """

    name: str
    place: Path
    text: Bytes
    steps: npt.NDArray[np.void]
    blocks: Integers

    @property
    def crc(self) -> str:
        """Of its bytes."""
        return self.place.name[-8:]

    def block(self, index: int) -> tuple[slice, slice]:
        """Where a block lies in `text` and in `steps`."""
        begin = self.blocks[index - 1] if index else np.zeros(2, np.int64)
        end = self.blocks[index]
        return slice(int(begin[0]), int(end[0])), slice(int(begin[1]), int(end[1]))

    def words(self) -> npt.NDArray[np.uint32]:
        """(k,): keys of the words so far (chunker.core.ngrams) at each step, kept in the folder."""
        path = self.place / "word.npy"
        if not path.exists():
            keys = np.zeros(len(self.steps), np.uint32)
            for index in range(len(self.blocks)):
                text, steps = self.block(index)
                places = self.steps["position"][steps].astype(np.int64) - text.start
                keys[steps] = word_keys_before(self.text[text], places)
            content = io.BytesIO()
            np.save(content, keys)
            write_whole(path, content.getvalue())
        return _mapped(path)


def foretell(
    strips: Sequence[tuple[str, Strip]],
    folder: Path,
    settings: Settings,
    advance: Callable[[int], None] = lambda n_bytes: None,
) -> list[Foretold]:
    """Let level 0 read texts, each under its name, unless the folder has them: about 100 KB a second.

    settings: contexts and gate, as archives will have them; a folder that was made with a higher gate will
    do; it serves every seed of a training. advance: called with how many more bytes are done.

    Raises
    ------
    CorpusError: the folder was made with other settings, or is damaged. OSError: it cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    facts = {"contexts": settings.contexts.name.lower(), "gate": settings.gate}
    settings = Settings(settings.contexts, _gate_of(folder, facts))
    found = []
    for name, strip in strips:
        text = strip.read(0, strip.size)
        place = folder / f"{name}-{zlib.crc32(text.tobytes()):08x}"
        if place.is_dir():
            advance(len(text))
        else:
            _foretell_one(text, place, settings, advance)
        found.append(open_foretold(place, name))
    return found


def open_foretold(place: Path, name: str) -> Foretold:
    """A text that `foretell` is done with, its arrays mapped from their files. Raises CorpusError if one is
    damaged."""
    text, steps, blocks = (_mapped(place / f"{part}.npy") for part in _FILES)
    return Foretold(name, place, text, steps, np.asarray(blocks))


def _mapped(path: Path) -> npt.NDArray[Any]:
    try:
        found: npt.NDArray[Any] = np.load(path, mmap_mode="r")
    except (ValueError, EOFError):
        raise CorpusError(f"{path.parent} is damaged; delete it, and it is made anew") from None
    return found


def _gate_of(folder: Path, facts: dict[str, Any]) -> int:
    """The gate that a folder was begun with."""
    path = folder / "foretold.json"
    if not path.exists():
        write_whole(path, (canonical_json(facts) + "\n").encode("ascii"))
    try:
        found = json.loads(path.read_bytes())
        gate = int(found["gate"])
    except (KeyError, TypeError, ValueError):
        raise CorpusError(f"{path} is damaged; delete {folder}, or name another folder") from None
    for name, wanted in facts.items():
        if found.get(name) != wanted and (name != "gate" or gate < wanted):
            raise CorpusError(f"{folder}: was made with {name} {found.get(name)}; name another folder")
    return gate


def _foretell_one(text: Bytes, place: Path, settings: Settings, advance: Callable[[int], None]) -> None:
    steps, blocks, total = [], [], 0
    for begin, end in _cut(len(text), np.random.default_rng([0, len(text)])):
        part = _read_block(text[begin:end].tobytes(), settings)
        part["position"] += begin
        steps.append(part)
        total += len(part)
        blocks.append((end, total))
        advance(end - begin)
    begun = place.with_name(f"{place.name}.{os.getpid()}.begun")  # another run may be at the same text
    begun.mkdir(exist_ok=True)
    _save(begun / "text.npy", text)
    _save(begun / "steps.npy", np.concatenate(steps) if steps else np.zeros(0, STEP))
    _save(begun / "blocks.npy", np.array(blocks, dtype=np.int64).reshape(-1, 2))
    try:
        os.replace(begun, place)
    except OSError:
        if not place.is_dir():  # else the other one was faster
            raise
    for left in place.parent.glob(f"{glob.escape(place.name)}.*.begun"):
        shutil.rmtree(left, ignore_errors=True)


def _save(path: Path, array: npt.NDArray[Any]) -> None:
    """As np.save, whose error on a full disk says neither why nor where."""
    npy: Any = np.lib.format  # not typed
    try:
        with path.open("wb") as stream:
            npy.write_array_header_1_0(stream, npy.header_data_from_array_1_0(array))
            stream.write(np.ascontiguousarray(array).view(np.uint8).data)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


def _cut(n_bytes: int, rng: np.random.Generator) -> Iterator[tuple[int, int]]:
    begin = 0
    while begin < n_bytes:
        size = int(np.exp(rng.uniform(np.log(SMALLEST_BLOCK), np.log(LARGEST_BLOCK))))
        end = min(begin + size, n_bytes)
        if n_bytes - end < SMALLEST_BLOCK:
            end = n_bytes
        yield begin, end
        begin = end


def _read_block(content: bytes, settings: Settings) -> npt.NDArray[np.void]:
    session = backend().session(settings, None, len(content), Stop(), Progress())
    trace = session.read(content, detail=True)
    woke = np.frombuffer(trace.woke, dtype=np.uint8)
    # Before the first byte of a block there is no input: the levels predict it, but take no step.
    at = np.flatnonzero((woke < 8) & (np.arange(len(woke)) > 0))
    steps = np.zeros(len(at), STEP)
    steps["position"], steps["woke"] = at, woke[at]
    confidence = np.frombuffer(trace.confidences, dtype=np.uint8)[at]
    steps["confidence"] = confidence
    steps["guess"] = np.where(confidence > 0, np.asarray(trace.guesses)[at], 0)
    steps["probability"] = np.asarray(trace.probabilities, dtype=np.uint16).reshape(-1, 8)[at]
    return steps
