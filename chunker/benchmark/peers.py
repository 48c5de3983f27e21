"""The compressors that `chunker bench` compares with: the standard library's,
and programs that are installed.

Each packs one file into another and back, so that files of any size pass through bounded memory.
"""

from __future__ import annotations

import bz2
import contextlib
import gzip
import lzma
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from chunker.errors import ChunkerError

CHUNK_BYTES = 1 << 20
PPMD_ORDERS = (2, 3, 4, 5, 6, 8, 10, 12, 16, 24, 32)
STRONGEST = ("xz", "ppmd", "zpaq")  # those that chunker is compared with unless told otherwise
PPMD_MEMORY_BYTES = 256 << 20


Convert = Callable[[Path, Path], None]


class PeerError(ChunkerError):
    """Another compressor could not do its work."""


@dataclass(frozen=True)
class Peer:
    """One compressor at one setting; both functions read their first file and write their second.

    setting: told apart from others of the same label, if several are tried. missing: what has to be installed
    first; the functions are of no use then.
    """

    label: str
    compress: Convert
    decompress: Convert
    setting: str | None = None
    missing: str | None = None


def _missing(label: str, what: str) -> Peer:
    def refuse(source: Path, target: Path) -> None:
        raise PeerError(f"missing: {what}")

    return Peer(label, refuse, refuse, missing=what)


def all_peers(threads: int = 1) -> list[list[Peer]]:
    """All others, also those that are not on this machine; of the settings in an inner list the best one
    counts."""
    standard = [_standard("gzip -9", _gzip), _standard("bzip2 -9", _bzip2), _standard("xz -9e", _xz)]
    return [*([peer] for peer in (*standard, *_filters(threads))), _ppmd(), [_zpaq(threads)]]


def _standard(name: str, opener: Callable[[Path, str], Any]) -> Peer:
    def compress(source: Path, target: Path) -> None:
        with source.open("rb") as plain, opener(target, "wb") as packed:
            shutil.copyfileobj(plain, packed, CHUNK_BYTES)

    def decompress(source: Path, target: Path) -> None:
        with opener(source, "rb") as packed, target.open("wb") as plain:
            shutil.copyfileobj(packed, plain, CHUNK_BYTES)

    return Peer(name, compress, decompress)


@contextlib.contextmanager
def _gzip(path: Path, mode: str) -> Iterator[Any]:
    """Without the file's name in the header, as from a pipe."""
    with path.open(mode) as raw, gzip.GzipFile("", mode, 9, raw) as stream:
        yield stream


def _bzip2(path: Path, mode: str) -> Any:
    return bz2.open(path, mode, compresslevel=9)


def _xz(path: Path, mode: str) -> Any:
    return lzma.open(path, mode, preset=9 | lzma.PRESET_EXTREME if mode == "wb" else None)


def _filters(threads: int) -> list[Peer]:
    """Programs that read standard input and write standard output."""
    wanted: list[tuple[str, list[str], list[str]]] = [
        ("zstd -19", ["zstd", "-q", "-19", f"-T{threads}", "-c"], ["zstd", "-q", "-dc"]),
        ("zstd --ultra -22", ["zstd", "-q", "--ultra", "-22", f"-T{threads}", "-c"], ["zstd", "-q", "-dc"]),
        ("brotli -q 11", ["brotli", "-q", "11", "-w", "24", "-c"], ["brotli", "-dc"]),
    ]
    return [
        _missing(name, f"{pack[0]} is not on the PATH")
        if shutil.which(pack[0]) is None
        else Peer(name, _through(pack), _through(unpack))
        for name, pack, unpack in wanted
    ]


def _through(command: Sequence[str]) -> Convert:
    def convert(source: Path, target: Path) -> None:
        with source.open("rb") as before, target.open("wb") as after:
            _call(command, stdin=before, stdout=after)

    return convert


def _ppmd() -> list[Peer]:
    """PPMd without a container (variant I with an end mark), at the order that suits a file best."""
    label = "ppmd, best order"
    try:
        import pyppmd
    except ImportError:
        return [_missing(label, "pip install pyppmd")]
    return [Peer(label, *_ppmd_order(pyppmd, order), f"{order}") for order in PPMD_ORDERS]


def _ppmd_order(pyppmd: Any, order: int) -> tuple[Convert, Convert]:
    def compress(source: Path, target: Path) -> None:
        encoder = pyppmd.Ppmd8Encoder(order, PPMD_MEMORY_BYTES)
        with source.open("rb") as plain, target.open("wb") as packed:
            while data := plain.read(CHUNK_BYTES):
                packed.write(encoder.encode(data))
            packed.write(encoder.flush())

    def decompress(source: Path, target: Path) -> None:
        decoder = pyppmd.Ppmd8Decoder(order, PPMD_MEMORY_BYTES)
        with source.open("rb") as packed, target.open("wb") as plain:
            while data := packed.read(CHUNK_BYTES >> 4):
                plain.write(decoder.decode(data))

    return compress, decompress


def _zpaq(threads: int) -> Peer:
    if shutil.which("zpaq") is None:
        return _missing("zpaq -m5", "zpaq is not on the PATH")

    def compress(source: Path, target: Path) -> None:
        archive = target.with_name("packed.zpaq")  # zpaq would add this suffix to any other name
        archive.unlink(missing_ok=True)  # or it would be added to
        # From the file's own folder: the name as given is part of the archive.
        command = ["zpaq", "a", str(archive.absolute()), f"./{source.name}", "-m5", f"-t{threads}"]
        _call(command, folder=source.absolute().parent)
        archive.replace(target)

    def decompress(source: Path, target: Path) -> None:
        archive, folder = source.with_name("packed.zpaq"), source.with_name("zpaq-out")
        source.replace(archive)
        try:
            _call(["zpaq", "x", str(archive.absolute()), "-to", f"{folder.absolute()}/", f"-t{threads}"])
            next(path for path in folder.rglob("*") if path.is_file()).replace(target)
        finally:
            archive.replace(source)
            shutil.rmtree(folder, ignore_errors=True)

    return Peer("zpaq -m5", compress, decompress)


def _call(
    command: Sequence[str],
    *,
    stdin: BinaryIO | int = subprocess.DEVNULL,
    stdout: BinaryIO | int = subprocess.DEVNULL,
    folder: Path | None = None,
) -> None:
    """Run a program. Raises PeerError with the last line that it said."""
    done = subprocess.run(
        command, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE, cwd=folder, check=False
    )
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no message"]
        raise PeerError(f"{command[0]} failed with code {done.returncode}: {said[-1]}")
