"""Gigabytes through the codec: bounded memory, positions beyond 2 and 4 GB.

    python tests/endurance/large.py MEGABYTES [FOLDER [TEXT]]

The data is made up as it is read: blocks of 4 MiB, most of them repetition, one of 16 noise, one of TEXT
(1024) text, which takes a hundred times as long. An archive of it is written and read back, by the stream and
by `seek`; FOLDER needs room for a tenth of it. It prints how wrong the progress bar was, and its time left
between a tenth and nine tenths of the time; more than a fifth by CPU time is an error, if that took long
enough to mean something.
"""

from __future__ import annotations

import functools
import io
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

import chunker
from chunker.cli.files import Digesting
from chunker.cli.progress import Progress
from chunker.codec.effort import Effort, of_archive, of_content
from chunker.codec.pipes import pack, unpack
from chunker.codec.presets import without_model

PIECE = 1 << 20
PIECES_A_BLOCK = 4
MOST_MEMORY = 500_000_000
MOST_WRONG, JUDGED_SECONDS = 0.2, 20
WORKERS = 2
ALONE = without_model("fast")  # made-up text is soon learnt, and then a net sleeps
LETTERS = b"aeinrst"


@functools.cache
def text() -> bytes:
    """A megabyte of words."""
    draw = random.Random(1)
    words = [bytes(draw.choices(LETTERS, k=draw.randint(1, 8))) for _ in range(300)]
    return b" ".join(draw.choices(words, k=PIECE // 5)).ljust(PIECE)


class Made(io.RawIOBase):
    """So many megabytes as a file; each of them is another one. text: of how many blocks one is text."""

    def __init__(self, pieces: int, text: int) -> None:
        self._size, self._text, self._at = pieces * PIECE, text, 0

    def piece(self, number: int) -> bytes:
        """A megabyte."""
        draw = random.Random(number)
        name, block = b"piece %d\n" % number, number // PIECES_A_BLOCK
        if block % self._text == min(64, self._text // 2):
            body = text().translate(bytes.maketrans(LETTERS, bytes(draw.sample(LETTERS, len(LETTERS)))))
        elif block % 16 == 8:
            body = draw.randbytes(PIECE)
        else:
            body = draw.randbytes(50) * (PIECE // 50 + 1)
        return (name + body)[:PIECE]

    def read(self, size: int = -1) -> bytes:
        """Up to the end of a piece."""
        if self._at == self._size:
            return b""
        number, begin = divmod(self._at, PIECE)
        data = self.piece(number)[begin:][: size if size >= 0 else None]
        self._at += len(data)
        return data

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """From the start alone."""
        self._at = offset
        return offset

    def tell(self) -> int:
        """Where it is."""
        return self._at


class Judge:
    """The progress bar and its time left by a clock, noted again and again."""

    def __init__(self, effort: Effort, clock: Callable[[], float]) -> None:
        self._progress = Progress("large", effort, quiet=True, clock=clock)
        self._marks = list[tuple[float, float, float]]()

    def advance(self, n_bytes: int, at: int) -> None:
        """Count them."""
        self._progress.advance(n_bytes, at)
        left = self._progress.seconds_left
        if left is not None:
            self._marks.append((self._progress.seconds, self._progress.share, left))

    def end(self) -> tuple[float, float, float]:
        """Seconds in all; how wrong the bar was at worst, as a share of it; how wrong the time left was
        between a tenth and nine tenths of the time, as a share of what was left."""
        end = self._progress.seconds
        bar = max(abs(share - at / end) for at, share, _ in self._marks)
        return (
            end,
            bar,
            max(abs(left / (end - at) - 1) for at, _, left in self._marks if 0.1 <= at / end <= 0.9),
        )


class Judges:
    """One by the clock of the processor, which other programs hardly disturb, and one by that of the wall."""

    def __init__(self, effort: Effort) -> None:
        self._wall, self._cpu = Judge(effort, time.perf_counter), Judge(effort, time.process_time)

    def advance(self, n_bytes: int, at: int) -> None:
        """Count them."""
        self._wall.advance(n_bytes, at)
        self._cpu.advance(n_bytes, at)

    def tell(self, done: str) -> bool:
        """Print how long it took and how wrong the bar was; whether it was right."""
        seconds, _, by_wall = self._wall.end()
        cpu_seconds, bar, wrong = self._cpu.end()
        print(f"{done} in {seconds:.0f} s, {cpu_seconds:.0f} s of CPU")
        told = f"the bar was wrong by {bar:.1%} at most, the time left by {wrong:.1%}"
        print(f"{told} (by the wall clock {by_wall:.1%})", flush=True)
        return max(bar, wrong) <= MOST_WRONG or cpu_seconds < JUDGED_SECONDS


def main() -> None:
    """The command line. Exits with 1 if something is not as promised."""
    megabytes = int(sys.argv[1])
    total = megabytes * PIECE
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
        path = Path(folder, "large.nhc")
        source = Made(megabytes, int(sys.argv[3]) if len(sys.argv) > 3 else 1024)
        content, found = Digesting(cast(BinaryIO, source)), Digesting()
        text()  # which takes a while
        judges = Judges(of_content(cast(BinaryIO, source), total, ALONE))
        with path.open("wb") as target:
            pack(cast(BinaryIO, content), target, ALONE, workers=WORKERS, advance=judges.advance)
        right = judges.tell(f"packed {total:,} bytes into {path.stat().st_size:,}")
        with path.open("rb") as archive:
            judges = Judges(of_archive(archive))
            archive.seek(0)
            unpack(archive, cast(BinaryIO, found), workers=WORKERS, advance=judges.advance)
        right &= judges.tell("unpacked")
        sound = found.digest == content.digest
        places = [n for n in (0, 1, 2047, 2048, 2049, 4095, 4096, 4097, megabytes - 1) if n < megabytes]
        with chunker.open(path, workers=WORKERS) as file:
            for number in (*places, *reversed(places)):
                file.seek(number * PIECE + 100)
                sound &= file.read(1000) == source.piece(number)[100:1100]
                sound &= file.tell() == number * PIECE + 1100
            sound &= file.seek(-10, io.SEEK_END) == total - 10
            sound &= file.read() == source.piece(megabytes - 1)[-10:]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"positions {', '.join(f'{n} MiB' for n in places)}: {'right' if sound else 'WRONG'}")
    print(f"at most {memory / 1e6:.0f} MB of memory")
    if not (sound and right) or memory > MOST_MEMORY:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
