"""Text to train on: files and folders, read as parallel streams or as lanes for validation.

A *source* is one path of the command line: a file, or a folder whose files are read in sorted order as one
long text. The last part of every file is its validation tail and is never trained on. Large plain files are
memory-mapped, so a corpus may exceed the memory; .xz, .gz and .bz2 are unpacked into memory.

Training reads B streams side by side, each walking contiguously through the corpus, window by window. At the
end of a source a stream goes on at the beginning of another one, drawn by weight. At random window
boundaries it is cut: it jumps to a random place and its network starts cold there, as the coder's lanes do.
Both draws leave a byte of a source of weight w to be read w times as often as one of weight 1.
Training text that repeats validation text is left out (`without_repeats`). Needs numpy, not torch.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import lzma
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from chunker.errors import CheckpointError, CorpusError, UsageError

Bytes = npt.NDArray[np.uint8]

LANE_BYTES = 8192  # about the length of a coder's lane, each of which starts cold
_UNPACK = {".xz": lzma.decompress, ".gz": gzip.decompress, ".bz2": bz2.decompress}
_MAPPED_FROM = 1 << 20  # smaller files are held in memory: mapping each would need a file descriptor
_OPEN_MAPS = 128
_STRETCH, _PIECE = 64, 4096  # bytes that are hashed, and that are left out, at once
_EDGE = 1 << 16  # bytes at either end of a file that tell one corpus from another
_NAMED = 3  # files that a message names


@lru_cache(maxsize=_OPEN_MAPS)
def _map(path: Path) -> Bytes:
    try:
        return np.memmap(path, dtype=np.uint8, mode="r")
    except (OSError, ValueError) as exc:
        raise CorpusError(f"{path}: cannot be read any more ({exc}); put it back and use --resume") from exc


@dataclass(frozen=True)
class TextFile:
    """One file of `size` bytes, in memory (`contents`) or mapped from `path` when needed."""

    name: str
    size: int
    path: Path
    contents: Bytes | None = None

    def digest(self, crc: int = 0) -> int:
        """CRC-32 over name, size and edges, to notice a changed file; goes on from that of another one."""
        crc = zlib.crc32(f"{self.name}:{self.size}".encode(), crc)
        crc = zlib.crc32(self.read(0, min(_EDGE, self.size)).tobytes(), crc)
        return zlib.crc32(self.read(max(0, self.size - _EDGE), self.size).tobytes(), crc)

    def read(self, start: int, stop: int) -> Bytes:
        """The bytes start <= i < stop, as a view."""
        whole = _map(self.path) if self.contents is None else self.contents
        if len(whole) < stop:
            raise CorpusError(f"{self.path}: became shorter during training; put it back and use --resume")
        return whole[start:stop]


class Strip:
    """Stretches (file, start, stop) of several files, read as one text of `size` bytes."""

    def __init__(self, stretches: Iterable[tuple[TextFile, int, int]]) -> None:
        self.stretches = [s for s in stretches if s[2] > s[1]]
        self._ends = np.cumsum([stop - start for _, start, stop in self.stretches], dtype=np.int64)
        self.size = int(self._ends[-1]) if self.stretches else 0

    def read(self, start: int, stop: int) -> Bytes:
        """The bytes start <= i < stop, 0 <= start <= stop <= size, as a new array."""
        out = np.empty(stop - start, dtype=np.uint8)
        filled = 0
        index = int(np.searchsorted(self._ends, start, side="right"))
        while filled < len(out):
            file, first, last = self.stretches[index]
            skip = start + filled - (int(self._ends[index]) - (last - first))
            taken = file.read(first + skip, min(last, first + skip + len(out) - filled))
            out[filled : filled + len(taken)] = taken
            filled += len(taken)
            index += 1
        return out


@dataclass(frozen=True)
class Listed:
    """What to read: a path, how often per byte, and how many bytes of it at most, from its beginning.

    Raises
    ------
    UsageError: the weight or the limit is not above 0.
    """

    path: Path
    weight: float = 1.0
    limit: int | None = None

    def __post_init__(self) -> None:
        if not 0 < self.weight < float("inf"):
            raise UsageError(f"{self.path}: a weight must be above 0 and finite")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"{self.path}: the number of bytes must be above 0")


def read_list(table: Path) -> tuple[list[Listed], list[Listed]]:
    """What a table names to train on, and to validate on.

    The table is tab-separated with a header: `path`, and where there are such columns `weight`, `bytes` (only
    the first so many) and `use` (train or validate). Other columns tell people more.

    Raises
    ------
    CorpusError: it cannot be read, or is no such table.
    """
    try:
        rows = list(csv.DictReader(io.StringIO(table.read_text("utf-8-sig")), delimiter="\t"))
    except (OSError, ValueError, csv.Error) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else "is no table of text"
        raise CorpusError(f"{table}: {reason}; name a tab-separated list of sources") from exc
    found: dict[str, list[Listed]] = {"train": [], "validate": []}
    for number, row in enumerate(rows, 2):
        try:
            limit = int(row["bytes"]) if row.get("bytes") else None
            listed = Listed(Path(row["path"]), float(row.get("weight") or 1), limit)
            found[row.get("use") or "train"].append(listed)
        except (KeyError, TypeError, ValueError, UsageError) as exc:
            raise CorpusError(
                f"{table}, line {number}: wants path, and weight and bytes above 0, and use train or validate"
            ) from exc
    return found["train"], found["validate"]


class Source:
    """One path of the corpus: `training` and `validation` text, and how often it is read (`weight`)."""

    def __init__(self, name: str, files: Sequence[TextFile], weight: float, validation: float) -> None:
        self.name = name
        self.weight = weight
        self.files = list(files)
        cuts = [file.size - int(file.size * validation) for file in self.files]
        self.training = Strip((file, 0, cut) for file, cut in zip(self.files, cuts, strict=True))
        self.validation = Strip((file, cut, file.size) for file, cut in zip(self.files, cuts, strict=True))

    def digest(self) -> str:
        """Eight hex digits over names, sizes and the edges of all files, to notice a changed corpus."""
        crc = 0
        for file in self.files:
            crc = file.digest(crc)
        return f"{crc:08x}"

    def leave_out(self, repeated: Mapping[str, list[tuple[int, int]]]) -> None:
        """Take stretches (from, to) of its files, by their names, out of the training text."""
        kept: list[tuple[TextFile, int, int]] = []
        for file, begin, end in self.training.stretches:
            for first, last in [*repeated.get(file.name, []), (end, end)]:
                kept.append((file, begin, min(first, end)))
                begin = max(begin, last)
        self.training = Strip(kept)


def file_digests(sources: Iterable[Source]) -> dict[str, list[int]]:
    """For each file of the sources, as `folder/name`, the digests of those of that name."""
    found: dict[str, list[int]] = {}
    for source in sources:
        for file in source.files:
            name = file.name if file.name == source.name else f"{source.name}/{file.name}"
            found.setdefault(name, []).append(file.digest())
    return found


def changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Which files two `file_digests` differ in, for people: `a changed, b is new, c is gone`; "" for none."""
    named = [f"{name} changed" for name in now if name in before and before[name] != now[name]]
    named += [f"{name} is new" for name in now if name not in before]
    named += [f"{name} is gone" for name in before if name not in now]
    more = f" and {len(named) - _NAMED} more" if len(named) > _NAMED else ""
    return ", ".join(named[:_NAMED]) + more


def open_source(
    argument: str | os.PathLike[str] | Listed, validation: float = 0.0, outputs: Iterable[Path] = ()
) -> Source:
    """The source named by `PATH` or `PATH:WEIGHT`; the last share `validation` of each file is held back.

    outputs: files and folders that the training writes, which a folder is read without.

    Raises CorpusError if there is no such path, if it cannot be read, holds no byte, or is one of `outputs`.
    """
    if not 0 <= validation <= 1:
        raise UsageError(f"validation share {validation:g} is not between 0 and 1")
    listed = argument if isinstance(argument, Listed) else _split_weight(os.fspath(argument))
    path = listed.path
    folder, written = path.is_dir(), {os.path.realpath(output) for output in outputs}
    if os.path.realpath(path) in written:
        raise CorpusError(f"{path}: this training writes it; leave it out, or choose another -o")
    paths = _walk(path, written) if folder else [path]
    files = [_open_file(p, p.relative_to(path).as_posix() if folder else p.name) for p in paths]
    left = listed.limit
    for index, file in enumerate(files):
        if left is not None:
            files[index] = replace(file, size=min(file.size, left))
            left -= files[index].size
    files = [file for file in files if file.size]
    if not files:
        raise CorpusError(f"{path}: holds no text; name a file or folder with something in it")
    return Source(path.resolve().name or str(path), files, listed.weight, validation)


def _split_weight(argument: str) -> Listed:
    head, colon, tail = argument.rpartition(":")
    if not colon or os.path.lexists(argument):
        return Listed(Path(argument))
    try:
        weight = float(tail)
    except ValueError:
        return Listed(Path(argument))
    return Listed(Path(head), weight)


def _walk(folder: Path, written: set[str]) -> list[Path]:
    """All regular files below `folder` in sorted order, without hidden ones (.git and the like) and without
    what is `written` by this training."""
    found: list[Path] = []
    for root, folders, names in os.walk(folder):
        real = os.path.realpath(root)

        def read(name: str, real: str = real) -> bool:
            return not name.startswith(".") and os.path.join(real, name) not in written

        folders[:] = sorted(filter(read, folders))
        found += [path for path in (Path(root, name) for name in filter(read, names)) if path.is_file()]
    return sorted(found)


def _open_file(path: Path, name: str) -> TextFile:
    if not path.exists():
        raise CorpusError(f"{path}: no such file or folder; check the path")
    if not path.is_file():
        raise CorpusError(f"{path}: is neither a file nor a folder; name a file that can be read twice")
    unpack = _UNPACK.get(path.suffix.lower())
    try:
        size = path.stat().st_size
        if unpack is None and size >= _MAPPED_FROM:
            with path.open("rb"):  # permission is checked now, not in the middle of the training
                return TextFile(name, size, path)
        packed = path.read_bytes()
        contents = np.frombuffer(unpack(packed) if unpack else packed, dtype=np.uint8)
    except (OSError, EOFError, ValueError, lzma.LZMAError, zlib.error) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else "is damaged or not packed so"
        raise CorpusError(f"{path}: {reason}; leave it out or replace it") from exc
    return TextFile(name, len(contents), path, contents)


def without_repeats(sources: Sequence[Source], held_out: Sequence[Source]) -> int:
    """Leave out of the sources' training text what repeats held-out text; returns how many bytes.

    Of every 64 bytes of text that begin where a hash of the three bytes before says so, one place in 64, a
    hash is compared. Of training text, pieces of 4096 bytes go in which a tenth of these hashes, and at least
    two, are held out (anchors as in Manber 1994, Finding similar files in a large file system).
    """
    known = [_fingerprints(text.training.read(0, text.training.size))[1] for text in held_out]
    if not known:
        return 0
    hashes, total = np.unique(np.concatenate(known)), 0
    for source in sources:
        repeated = {file.name: _repeated(file.read(0, file.size), hashes) for file in source.files}
        before = source.training.size
        source.leave_out(repeated)
        total += before - source.training.size
    return total


def _fingerprints(text: Bytes) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.uint64]]:
    """Where hashed stretches begin, and their hashes."""
    a, b, c = (text[k : len(text) - 2 + k].astype(np.uint16) for k in range(3))
    key = (a * np.uint16(40503) + b) * np.uint16(40503) + c
    at = np.flatnonzero(key * np.uint16(40503) >> 10 == 0) + 3
    at = at[at <= len(text) - _STRETCH]
    words = text[at[:, None] + np.arange(_STRETCH)].view("<u8").astype(np.uint64)
    odd = np.random.default_rng(0).integers(0, 1 << 63, words.shape[1], dtype=np.uint64) * 2 + 1
    mixed = words ^ words >> np.uint64(29)
    return at, (mixed * odd).sum(1, dtype=np.uint64)


def _repeated(text: Bytes, held_out: npt.NDArray[np.uint64]) -> list[tuple[int, int]]:
    at, hashes = _fingerprints(text)
    pieces = -(-len(text) // _PIECE)
    count = np.bincount(at // _PIECE, minlength=pieces)
    known = np.bincount(at[np.isin(hashes, held_out)] // _PIECE, minlength=pieces)
    bad = np.flatnonzero(known >= np.maximum(2, count / 10))
    return [(int(k) * _PIECE, (int(k) + 1) * _PIECE) for k in bad]


class Streams:
    """Endless windows (T, B) of symbols from B parallel streams, all randomness from one seed.

    `piece` is the mean number of bytes between two cuts of a stream; 0 means never.
    """

    def __init__(self, sources: Sequence[Source], batch: int, window: int, piece: int, seed: int) -> None:
        if batch < 1 or window < 1 or piece < 0:
            raise UsageError("batch and window must be at least 1 and piece at least 0")
        self.sources = [source for source in sources if source.training.size]
        if not self.sources:
            raise CorpusError("nothing is left to train on; lower the share --validation or add text")
        self.batch, self.window, self.piece = batch, window, piece
        self.bytes = sum(source.training.size for source in self.sources)
        weights = np.array([source.weight for source in self.sources])
        reach = weights * [source.training.size for source in self.sources]
        # Entered at its beginning in proportion to its weight and at a random place in proportion to
        # weight * size, a source is read in proportion to weight * size either way.
        self._entry, self._reach = np.cumsum(weights / weights.sum()), np.cumsum(reach / reach.sum())
        self._rng = np.random.Generator(np.random.PCG64(seed))
        self._source = np.zeros(batch, dtype=np.int64)
        self._offset = np.zeros(batch, dtype=np.int64)
        for row, share in enumerate((np.arange(batch) + self._rng.random()) / batch):
            self._place(row, float(share))

    def __iter__(self) -> Iterator[tuple[Bytes, npt.NDArray[np.bool_]]]:
        while True:
            yield self.next()

    def next(self) -> tuple[Bytes, npt.NDArray[np.bool_]]:
        """The next window, symbols (T, B), and which rows (B,) start cold with it."""
        cold = np.zeros(self.batch, dtype=np.bool_)
        if self.piece:
            cold = self._rng.random(self.batch) < self.window / self.piece
            for row in np.flatnonzero(cold).tolist():
                self._place(row, float(self._rng.random()))
        rows = np.empty((self.batch, self.window), dtype=np.uint8)
        for row in range(self.batch):
            self._fill(row, rows[row])
        return np.ascontiguousarray(rows.T), cold

    def _place(self, row: int, share: float) -> None:
        """Put a stream where the share 0 <= share < 1 of the weighted corpus lies before it."""
        index = min(int(np.searchsorted(self._reach, share, side="right")), len(self.sources) - 1)
        before = float(self._reach[index - 1]) if index else 0.0
        inside = (share - before) / (float(self._reach[index]) - before)
        size = self.sources[index].training.size
        self._source[row], self._offset[row] = index, min(int(inside * size), size - 1)

    def _fill(self, row: int, out: Bytes) -> None:
        filled = 0
        while filled < len(out):
            text = self.sources[self._source[row]].training
            start = int(self._offset[row])
            stop = min(text.size, start + len(out) - filled)
            out[filled : filled + stop - start] = text.read(start, stop)
            filled += stop - start
            self._offset[row] = stop
            if stop == text.size:
                drawn = int(np.searchsorted(self._entry, self._rng.random(), side="right"))
                self._source[row], self._offset[row] = min(drawn, len(self.sources) - 1), 0

    def position(self) -> dict[str, Any]:
        """Everything that the next windows depend on besides the text, as JSON values."""
        return {
            "corpus": [[s.name, s.weight, s.training.size, s.digest()] for s in self.sources],
            "shape": [self.batch, self.window, self.piece],
            "source": self._source.tolist(),
            "offset": self._offset.tolist(),
            "random": self._rng.bit_generator.state,
        }

    def seek(self, position: Mapping[str, Any]) -> None:
        """Go on where `position()` was taken. Raises CheckpointError if text, batch or window differ."""
        here = self.position()
        if here["corpus"] != position["corpus"]:
            raise CheckpointError(
                "the corpus is not the one of the checkpoint; give the same, or begin anew (--force)"
            )
        if here["shape"] != position["shape"]:
            raise CheckpointError(
                "batch, window and piece must be as in the checkpoint: {}, {} and {}".format(
                    *position["shape"]
                )
            )
        self._source[:], self._offset[:] = position["source"], position["offset"]
        self._rng.bit_generator.state = position["random"]


@dataclass(frozen=True)
class Lanes:
    """Texts cut into lanes that all start cold.

    symbols: (T, N) uint8, padded with zeros; lengths: (N,) bytes per lane; owner: (N,) index into
    `names`; shares: weight of each name in the overall figure, sum 1.
    """

    symbols: Bytes
    lengths: npt.NDArray[np.int64]
    owner: npt.NDArray[np.int64]
    names: tuple[str, ...]
    shares: tuple[float, ...]

    def by_name(self, bits: npt.NDArray[np.float64]) -> dict[str, float]:
        """Bits per byte of each name from the bits of each lane (N,)."""
        lanes = [self.owner == index for index in range(len(self.names))]
        ratios = (float(bits[mine].sum() / self.lengths[mine].sum()) for mine in lanes)
        return dict(zip(self.names, ratios, strict=True))


def validation_lanes(
    tails: Sequence[Source], texts: Sequence[Source], limit: int, lane: int = LANE_BYTES
) -> Lanes | None:
    """About `limit` bytes of validation text: the tails of `tails` and the whole of `texts`.

    The lanes are spread evenly over each source, and over the sources by weight times size, at least one
    each. None if there is no validation text.
    """
    strips = [(s.name, s.weight, s.validation) for s in tails] + [
        (s.name, s.weight, s.training) for s in texts
    ]
    strips = [strip for strip in strips if strip[2].size]
    if not strips:
        return None
    total = sum(weight * strip.size for _, weight, strip in strips)
    shares = tuple(weight * strip.size / total for _, weight, strip in strips)
    pieces: list[Bytes] = []
    owner: list[int] = []
    for index, (_, _, strip) in enumerate(strips):
        length = min(lane, strip.size)
        wanted = max(1, round(limit * shares[index] / length))
        for number in np.unique(np.linspace(0, strip.size // length - 1, wanted).astype(np.int64)):
            pieces.append(strip.read(int(number) * length, (int(number) + 1) * length))
            owner.append(index)
    names = tuple(
        name if [n for n, _, _ in strips[:i]].count(name) == 0 else f"{name} ({i + 1})"
        for i, (name, _, _) in enumerate(strips)
    )
    return Lanes(*stack_lanes(pieces), np.array(owner, dtype=np.int64), names, shares)


def stack_lanes(pieces: Sequence[Bytes]) -> tuple[Bytes, npt.NDArray[np.int64]]:
    """Texts of different lengths side by side: symbols (T, N), padded with zeros, and lengths (N,)."""
    lengths = np.array([len(piece) for piece in pieces], dtype=np.int64)
    symbols = np.zeros((int(lengths.max()), len(pieces)), dtype=np.uint8)
    for index, piece in enumerate(pieces):
        symbols[: len(piece), index] = piece
    return symbols, lengths
