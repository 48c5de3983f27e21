"""Sizes and times of one compressor on one file, whole or in pieces."""

from __future__ import annotations

import filecmp
import os
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from chunker.benchmark.peers import Convert, Peer


@dataclass(frozen=True)
class Seconds:
    """Time taken; cpu counts all threads and the programs that were started."""

    wall: float = 0.0
    cpu: float = 0.0

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)


@dataclass(frozen=True)
class Result:
    """What one compressor did with one file, or with several.

    original, archive: bytes. setting: what was chosen, if several were tried. error: None if the round
    trip gave the original.
    """

    compressor: str
    original: int = 0
    archive: int = 0
    packing: Seconds = field(default_factory=Seconds)
    unpacking: Seconds = field(default_factory=Seconds)
    setting: str | None = None
    error: str | None = None

    def __add__(self, other: Result) -> Result:
        """The sum of two results of one compressor."""
        return Result(
            self.compressor,
            self.original + other.original,
            self.archive + other.archive,
            self.packing + other.packing,
            self.unpacking + other.unpacking,
            self.setting if self.setting == other.setting else None,
            self.error or other.error,
        )

    def speed(self, seconds: float) -> float | None:
        """KB/s: 1000 bytes of the original per second; None if it took no measurable time."""
        return self.original / 1000 / seconds if seconds > 0 else None


def pieces(source: Path, piece_bytes: int | None, folder: Path) -> Iterator[Path]:
    """The file itself, or its pieces one after the other in a file that is written anew for each."""
    if piece_bytes is None or source.stat().st_size <= piece_bytes:
        yield source
        return
    piece = folder / "piece"
    with source.open("rb") as stream:
        while data := stream.read(piece_bytes):
            piece.write_bytes(data)
            yield piece


def best_of(peers: list[Peer], parts: Callable[[], Iterable[Path]], folder: Path, repeat: int) -> Result:
    """Measure the setting that makes the parts smallest in sum; failures are told in the result, and so is
    what a compressor that is not here lacks.

    Another program's trouble is no reason to stop, so every exception counts as its failure.
    """
    peer = peers[0]
    if peer.missing is not None:
        return Result(peer.label, error=f"missing: {peer.missing}")
    try:
        if len(peers) > 1:
            peer = min(peers, key=lambda each: _packed_bytes(each, parts(), folder))
        return measure(peer, parts(), folder, repeat)
    except Exception as error:  # noqa: BLE001 - see above; it is shown in the table
        return Result(peer.label, setting=peer.setting, error=str(error) or type(error).__name__)


def _packed_bytes(peer: Peer, parts: Iterable[Path], folder: Path) -> int:
    target = folder / "packed"
    total = 0
    for part in parts:
        peer.compress(part, target)
        total += target.stat().st_size
    return total


def measure(peer: Peer, parts: Iterable[Path], folder: Path, repeat: int) -> Result:
    """Pack and unpack every part, timed, the fastest of `repeat` runs; and compare with the original.

    Raises whatever the compressor raises.
    """
    packed, back = folder / "packed", folder / "back"
    original = archive = 0
    packing = unpacking = Seconds()
    error = None
    for part in parts:
        packing += _fastest(peer.compress, part, packed, repeat)
        unpacking += _fastest(peer.decompress, packed, back, repeat)
        original += part.stat().st_size
        archive += packed.stat().st_size
        if not filecmp.cmp(part, back, shallow=False):
            error = "round trip failed"
    return Result(peer.label, original, archive, packing, unpacking, peer.setting, error)


def _fastest(convert: Convert, source: Path, target: Path, repeat: int) -> Seconds:
    runs = [_timed(convert, source, target) for _ in range(repeat)]
    return Seconds(min(run.wall for run in runs), min(run.cpu for run in runs))


def _timed(convert: Convert, source: Path, target: Path) -> Seconds:
    cpu, wall = _cpu_seconds(), time.perf_counter()
    convert(source, target)
    return Seconds(time.perf_counter() - wall, _cpu_seconds() - cpu)


def _cpu_seconds() -> float:
    """CPU time so far of this process, all its threads, and of the programs it waited for."""
    try:
        from resource import RUSAGE_CHILDREN, getrusage
    except ImportError:  # not on this system; what it has instead counts hundredths of a second
        times = os.times()
        return times.user + times.system + times.children_user + times.children_system
    children = getrusage(RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime
