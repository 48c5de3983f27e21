"""Gigabytes through the codec: bounded memory, positions beyond 2 and 4 GB, a time left that is right.

    python tests/endurance/large.py MEGABYTES [FOLDER]

The data is made up as it is read: blocks of 4 MiB, half of them noise, half repetition, one of 128 text. An
archive of it is written and read back, by the stream and by `seek`; FOLDER needs room for half of it.
"""

from __future__ import annotations

import io
import random
import resource
import sys
import tempfile
import time
import zlib
from pathlib import Path
from typing import BinaryIO, cast

sys.path[:0] = [str(Path(__file__).resolve().parents[2])]

import chunker
from chunker.codec.pipes import pack

PIECE = 1 << 20
PIECES_A_BLOCK = 4
MOST_MEMORY = 500_000_000
WORKERS = 2


def piece(number: int) -> bytes:
    """A megabyte; each of them is another one."""
    draw = random.Random(number)
    name, kind = b"piece %d\n" % number, number // PIECES_A_BLOCK % 128
    if kind == 64:
        words = [bytes(draw.choices(b"aeinrst", k=draw.randint(1, 8))) for _ in range(300)]
        body = b" ".join(draw.choices(words, k=PIECE // 5))
    elif kind % 2:
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


def worst_estimate(marks: list[tuple[float, int]], total: int) -> float:
    """By how much the time left, by the mean speed until then, was wrong at worst between a tenth and nine
    tenths of the work, as a share of the whole time."""
    end = marks[-1][0]
    between = [(t, n) for t, n in marks if total / 10 <= n <= total * 9 / 10]
    return max((abs(t * total / n - end) / end for t, n in between), default=0.0)


def main() -> None:
    """The command line. Exits with 1 if something is not as promised."""
    megabytes = int(sys.argv[1])
    total = megabytes * PIECE
    with tempfile.TemporaryDirectory(dir=sys.argv[2] if len(sys.argv) > 2 else None) as folder:
        path, source, marks, done = Path(folder, "large.nhc"), Made(megabytes), [(0.0, 0)], 0
        begun = time.perf_counter()

        def advance(n_bytes: int) -> None:
            nonlocal done
            done += n_bytes
            marks.append((time.perf_counter() - begun, done))

        with path.open("wb") as target:
            pack(cast(BinaryIO, source), target, "fast", workers=WORKERS, advance=advance)
        wrong = worst_estimate(marks, total)
        print(f"packed {total:,} bytes into {path.stat().st_size:,} in {marks[-1][0]:.0f} s")
        print(f"the time left was wrong by {wrong:.0%} of the whole time at most")
        crc = size = 0
        with chunker.open(path, workers=WORKERS) as file:
            while data := file.read(PIECE):
                crc, size = zlib.crc32(data, crc), size + len(data)
        print(f"read {size:,} bytes, CRC {crc:08x}")
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
