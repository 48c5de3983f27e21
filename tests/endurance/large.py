"""Gigabytes through the codec: bounded memory, positions beyond 2 and 4 GB.

    python tests/endurance/large.py MEGABYTES [FOLDER]

The data is made up as it is read: blocks of 4 MiB, most of them repetition, one of 16 noise, one of 1024
text, which takes a hundred times as long. An archive of it is written and read back, by the stream and by
`seek`; FOLDER needs room for a tenth of it. Above 1 GB it prints how wrong the time left of the progress bar
was between a tenth and nine tenths of the work: it goes by the mean speed so far, and the text stands at a
few places.
"""

from __future__ import annotations

import io
import random
import resource
import sys
import tempfile
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, cast

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

import chunker
from chunker.cli.progress import Progress
from chunker.codec.pipes import pack

PIECE = 1 << 20
PIECES_A_BLOCK = 4
MOST_MEMORY = 500_000_000
JUDGED_BYTES = 1_000_000_000
WORKERS = 2


def piece(number: int) -> bytes:
    """A megabyte; each of them is another one."""
    draw = random.Random(number)
    name, kind = b"piece %d\n" % number, number // PIECES_A_BLOCK % 1024
    if kind == 64:
        words = [bytes(draw.choices(b"aeinrst", k=draw.randint(1, 8))) for _ in range(300)]
        body = b" ".join(draw.choices(words, k=PIECE // 5))
    elif kind % 16 == 8:
        body = draw.randbytes(PIECE)
    else:
        body = draw.randbytes(50) * (PIECE // 50 + 1)
    return (name + body)[:PIECE]


class Made(io.RawIOBase):
    """All pieces in a row, as a file that can only be read."""

    def __init__(self, pieces: int) -> None:
        self._pieces, self._next, self.crc = pieces, 0, 0

    def read(self, size: int = -1) -> bytes:
        """The next piece, whatever the size."""
        if self._next == self._pieces:
            return b""
        data = piece(self._next)
        self._next += 1
        self.crc = zlib.crc32(data, self.crc)
        return data


class Judge:
    """The progress bar's time left by a clock, noted again and again."""

    def __init__(self, total: int, clock: Callable[[], float]) -> None:
        self._progress = Progress("large", total, quiet=True, clock=clock)
        self._total, self._marks = total, list[tuple[float, float]]()

    def advance(self, n_bytes: int) -> None:
        """Count them."""
        self._progress.advance(n_bytes)
        left = self._progress.seconds_left
        if left is not None and 0.1 <= self._progress.done / self._total <= 0.9:
            self._marks.append((self._progress.seconds, left))

    def end(self) -> tuple[float, float]:
        """Seconds in all, and how wrong the time left was at worst, as a share of what was left."""
        end = self._progress.seconds
        return end, max((abs(left / (end - at) - 1) for at, left in self._marks), default=0.0)


def main() -> None:
    """The command line. Exits with 1 if something is not as promised."""
    megabytes = int(sys.argv[1])
    total = megabytes * PIECE
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
        path, source = Path(folder, "large.nhc"), Made(megabytes)
        wall, cpu = Judge(total, time.perf_counter), Judge(total, time.process_time)

        def advance(n_bytes: int) -> None:
            wall.advance(n_bytes)
            cpu.advance(n_bytes)

        with path.open("wb") as target:
            pack(cast(BinaryIO, source), target, "fast", workers=WORKERS, advance=advance)
        (seconds, by_wall), (cpu_seconds, wrong) = wall.end(), cpu.end()
        size = path.stat().st_size
        print(f"packed {total:,} bytes into {size:,} in {seconds:.0f} s, {cpu_seconds:.0f} s of CPU")
        if total > JUDGED_BYTES:
            print(
                f"the time left was wrong by {wrong:.0%} at most by CPU time, {by_wall:.0%} by the wall clock"
            )
        sys.stdout.flush()
        crc = size = 0
        with chunker.open(path, workers=WORKERS) as file:
            while data := file.read(PIECE):
                crc, size = zlib.crc32(data, crc), size + len(data)
        print(f"read {size:,} bytes, CRC {crc:08x}", flush=True)
        sound = (size, crc) == (total, source.crc)
        places = [n for n in (0, 1, 2047, 2048, 2049, 4095, 4096, 4097, megabytes - 1) if n < megabytes]
        with chunker.open(path, workers=WORKERS) as file:
            for number in (*places, *reversed(places)):
                file.seek(number * PIECE + 100)
                sound &= file.read(1000) == piece(number)[100:1100]
                sound &= file.tell() == number * PIECE + 1100
            sound &= file.seek(-10, io.SEEK_END) == total - 10 and file.read() == piece(megabytes - 1)[-10:]
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(f"positions {', '.join(f'{n} MiB' for n in places)}: {'right' if sound else 'WRONG'}")
    print(f"at most {memory / 1e6:.0f} MB of memory")
    if not sound or memory > MOST_MEMORY:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
