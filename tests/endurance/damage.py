"""Damaged archives, files of records and models, with the real core: found, or harmless and the same.

    python tests/endurance/damage.py bits               every bit of three small archives flipped
    python tests/endurance/damage.py edits COUNT [SEED]  COUNT harmed larger files of each kind in turn
    python tests/endurance/damage.py fuzz COUNT [SEED]   guided by coverage (pip install atheris)

Whatever a reader is given, it gives the content, or an error of chunker on one line; nothing else, and no
content that is another one. A salvaged archive gives whole blocks of the content alone.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).resolve().parents[2]), str(Path(__file__).resolve().parents[1])]


def instrumented() -> contextlib.AbstractContextManager[Any]:
    """What is imported meanwhile tells coverage of chunker; of all else it would only take time."""
    if sys.argv[1:2] != ["fuzz"]:
        return contextlib.nullcontext()
    import atheris

    found: contextlib.AbstractContextManager[Any] = atheris.instrument_imports(include=["chunker"])
    return found


with instrumented():
    from cli_support import invoke
    from small_blocks import cut_small

    import chunker
    from chunker.cli.main import chunker as command
    from chunker.codec.finder import ModelFinder
    from chunker.codec.info import frame_info
    from chunker.codec.salvage import salvage
    from chunker.codec.stream import Decompressor, compress, decompress
    from chunker.core.backend import Contexts, Settings
    from chunker.errors import ArchiveError, ChunkerError, NotAModel
    from chunker.models import load_model
    from chunker.records.codec import RecordCodec
    from chunker.records.container import RecordFile
    from chunker.records.container import write as write_records
    from chunker.records.model import RecordModel, load_record_model
    from chunker.records.training import train

TINY = Path(__file__).resolve().parents[1] / "golden" / "tiny.safetensors"
PRESETS: dict[str, Any] = {"default": "default", "fast": "fast", "a stack at every byte": "best"}


class Wrong(Exception):
    """A reader took damage for good, or failed in another way than it promises."""


@functools.cache
def model() -> Any:
    """The small stack of the golden archives."""
    return load_model(TINY)


def text(draw: random.Random, size: int) -> bytes:
    """Words, numbers and line ends."""
    words = ["the", "of", "history", "level", "0.5", "17", "\n", "</a>", '"name":']
    return " ".join(draw.choices(words, k=size // 3)).encode()[:size]


@contextlib.contextmanager
def small_blocks(block_bytes: int) -> Iterator[None]:
    """Archives have blocks of that size meanwhile."""
    import pytest

    with pytest.MonkeyPatch.context() as patch:
        cut_small(patch, block_bytes, small_bytes=1)
        yield


# ---- what is harmed --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kind:
    """A kind of file. samples: sound ones. read: what a file gives; raises ChunkerError.

    same: whether what a harmed file gave is the content of the sample, or of the parts that it is put
    together of.
    """

    name: str
    samples: list[bytes]
    read: Callable[[bytes], object]
    same: Callable[[bytes, object], bool]


def _archives() -> Kind:
    contents: dict[bytes, bytes] = {}
    draw = random.Random(1)
    for preset in (*PRESETS.values(), Settings(Contexts.MANY, 300)):
        with small_blocks(150):
            content = text(draw, 300) + draw.randbytes(160) + bytes(200) + text(draw, 120)
            contents[compress(content, preset, model=model(), workers=1)] = content
        contents[compress(content[:90], preset, model=model(), workers=1)] = content[:90]

    def read(data: bytes) -> object:
        way = len(data) % 3  # all of them see all harm in the end
        if way == 0:
            return decompress(data, model=model(), workers=1)
        if way == 1:
            with chunker.open(io.BytesIO(data), model=model(), workers=1) as file:
                return file.read()
        out, rest = b"", data
        while rest or not data:
            decompressor = Decompressor(model=model(), workers=1)
            out += decompressor.decompress(rest)
            if not decompressor.eof:
                return decompress(data, model=model(), workers=1)  # for its error
            rest = decompressor.unused_data.lstrip(b"\0") if rest != decompressor.unused_data else b""
        return out

    def same(data: bytes, found: object) -> bool:
        return found == _of_parts(contents, data)

    return Kind("archives", [*contents], read, same)


def _is(content: bytes, data: bytes, found: object) -> bool:
    return found == content


def _of_parts(contents: dict[bytes, bytes], data: bytes) -> bytes | None:
    """The content of several sound files in a row, with zeros behind; None: they are not."""
    found = b""
    while data.strip(b"\0"):
        part = next((each for each in contents if data.startswith(each)), None)
        if part is None:
            return None
        found, data = found + contents[part], data[len(part) :]
    return found


@functools.cache
def record_model() -> RecordModel:
    """A model of lines."""
    return train([b"t=%d level=%d" % (n, n % 3) for n in range(200)]).model


def _records() -> Kind:
    contents = {}
    for check in (0, 2):
        records = [b"t=%d level=%d" % (n * 7, n % 4) for n in range(60)] + [b"", b"\n", bytes(300)]
        target = io.BytesIO()
        write_records(target, records, RecordCodec(record_model(), check=check, workers=1))
        contents[target.getvalue()] = records

    def read(data: bytes) -> object:
        file = RecordFile(io.BytesIO(data), record_model(), workers=1)
        return list(file) if len(data) % 2 else [file[k] for k in range(len(file))]

    return Kind("files of records", [*contents], read, lambda data, found: found == contents.get(data))


def _encoded() -> Kind:
    codecs = [RecordCodec(record_model(), check=check, max_length=1000, workers=1) for check in (0, 1, 2)]
    records = [b"t=%d level=%d" % (n, n) for n in range(9)] + [b"", b"a\nb", bytes(999), bytes(range(256))]
    samples = [bytes([codec.check]) + codec.encode(record) for codec in codecs for record in records]

    def read(data: bytes) -> object:
        return codecs[data[0] % 3].decode(data[1:]) if data else b""

    def same(data: bytes, found: object) -> bool:  # a checksum of two bytes lets some pass
        return isinstance(found, bytes) and len(found) <= 1000

    return Kind("encoded records", samples, read, same)


def _models() -> Kind:
    folder = tempfile.mkdtemp()
    lines = Path(folder, "lines.safetensors")
    record_model().save(lines)
    samples = [TINY.read_bytes(), (TINY.parent / "ngrams.safetensors").read_bytes(), lines.read_bytes()]
    prints = {
        load_model(TINY.parent / name).fingerprint for name in ("tiny.safetensors", "ngrams.safetensors")
    }
    prints.add(load_record_model(lines).fingerprint)
    path = Path(folder, "m.safetensors")

    def read(data: bytes) -> object:
        path.write_bytes(data)
        try:
            return load_model(path).fingerprint
        except NotAModel:
            return load_record_model(path).fingerprint

    return Kind("models", samples, read, lambda data, found: found in prints)


def _salvaged() -> Kind:
    archives = _archives()
    whole = [archives.read(sample) for sample in archives.samples]

    def read(data: bytes) -> object:
        return [piece.content for piece in salvage(data, ModelFinder(model())) if piece.checked]

    def same(data: bytes, found: object) -> bool:
        return isinstance(found, list) and all(
            any(piece in content for content in whole if isinstance(content, bytes)) for piece in found
        )

    return Kind("salvaged archives", archives.samples, read, same)


def _commands() -> Kind:
    folder = tempfile.mkdtemp()
    archives = _archives()
    contents = {sample: archives.read(sample) for sample in archives.samples}
    source, target = Path(folder, "a.nhc"), Path(folder, "a")

    def read(data: bytes) -> object:
        source.write_bytes(data)
        target.unlink(missing_ok=True)
        ways = (["decompress"], ["test"], ["list"], ["list", "--json"])
        way = ways[len(data) % len(ways)]
        options = [] if way[0] == "list" else ["-m", str(TINY), "-T", "1"]
        result = invoke(command, *way, str(source), *options)
        if not isinstance(result.exception, SystemExit | type(None)) or result.exit_code not in (0, 1):
            raise Wrong(f"{way}: exit code {result.exit_code}, {result.exception!r}")
        if result.exit_code:
            *warnings, line = result.stderr.splitlines()
            if not all("zero bytes behind the archive" in each for each in warnings):
                raise Wrong(f"{way}: {result.stderr}")
            raise ArchiveError(line)
        return target.read_bytes() if target.exists() else None

    def same(data: bytes, found: object) -> bool:
        known = {key: content for key, content in contents.items() if isinstance(content, bytes)}
        return found is None or found == _of_parts(known, data)

    return Kind("the command line", archives.samples, read, same)


KINDS: tuple[Callable[[], Kind], ...] = (_archives, _records, _encoded, _models, _salvaged, _commands)


# ---- harm ------------------------------------------------------------------------------------------


def harm(draw: random.Random, data: bytes, others: list[bytes]) -> bytes:
    """The file after one to three accidents."""
    for _ in range(draw.choice((1, 1, 1, 2, 3))):
        a, b, c = sorted(draw.randrange(len(data) + 1) for _ in range(3))
        near = min(len(data), a + draw.choice((1, 2, 4, 8, 40)))
        other = draw.choice(others)
        at = draw.randrange(len(other) + 1)
        way = draw.randrange(14)
        if way <= 1:
            data = _flip(draw, data, a)
        elif way == 2:  # bytes overwritten, by others or by zeros
            data = (
                data[:a]
                + (draw.randbytes(near - a) if draw.random() < 0.5 else bytes(near - a))
                + data[near:]
            )
        elif way == 3:
            data = data[:a] + bytes([draw.choice((0, 1, 127, 128, 255))]) + data[a + 1 :]
        elif way <= 5:  # lost
            data = data[:a] + data[near if way == 4 else b :]
        elif way == 6:
            data = data[:a]
        elif way == 7:
            data = data[a:]
        elif way == 8:  # inserted
            data = data[:a] + draw.randbytes(draw.randint(1, 30)) + data[a:]
        elif way == 9:  # doubled
            data = data[:b] + data[a:]
        elif way == 10:  # exchanged
            data = data[:a] + data[b:c] + data[a:b] + data[c:]
        elif way == 11:  # spliced
            data = data[:a] + other[at:]
        elif way == 12:
            data = data[:a] + other[at : at + b - a] + data[b:]
        else:
            data = data[:a] + other + data[a:]
    return data


def _flip(draw: random.Random, data: bytes, at: int) -> bytes:
    if not data:
        return data
    harmed = bytearray(data)
    harmed[at % len(data)] ^= 1 << draw.randrange(8)
    return bytes(harmed)


def judge(kind: Kind, data: bytes) -> str:
    """ "refused" or "the same". Raises Wrong."""
    try:
        found = kind.read(data)
    except ChunkerError as error:
        if not str(error) or "\n" in str(error):
            raise Wrong(f"{kind.name}: not one line: {str(error)!r}") from error
        return "refused"
    except EOFError:
        return "refused"
    if not kind.same(data, found):
        raise Wrong(f"{kind.name}: other content: {data.hex()}")
    return "the same"


# ---- series ----------------------------------------------------------------------------------------


def bits() -> Counter[str]:
    """Every flipped bit of three small archives."""
    found: Counter[str] = Counter()
    for name, preset in PRESETS.items():
        content = text(random.Random(2), 40)
        archive = compress(content, preset, model=model(), workers=1)
        kind = Kind(
            name,
            [archive],
            lambda data: decompress(data, model=model(), workers=1),
            functools.partial(_is, content),
        )
        for bit in range(8 * len(archive)):
            harmed = bytearray(archive)
            harmed[bit // 8] ^= 1 << bit % 8
            found[f"{name}: {judge(kind, bytes(harmed))}"] += 1
            with contextlib.suppress(ChunkerError):
                frame_info(harmed)
    return found


def edits(count: int, seed: int = 1) -> Counter[str]:
    """So many harmed files, of each kind in turn."""
    kinds, found, slowest = [make() for make in KINDS], Counter[str](), 0.0
    for number in range(count):
        draw = random.Random(seed << 40 ^ number)
        kind = kinds[number % len(kinds)]
        data = harm(draw, draw.choice(kind.samples), kind.samples)
        begun = time.process_time()
        try:
            found[f"{kind.name}: {judge(kind, data)}"] += 1
        except Exception as error:
            raise Wrong(f"case {number} of seed {seed}, {data.hex()[:2000]}: {error!r}") from error
        slowest = max(slowest, time.process_time() - begun)
    print(f"the slowest took {slowest:.2f} s of CPU")
    return found


def fuzz(count: int, seed: int = 1) -> Counter[str]:
    """So many inputs that atheris makes up, guided by which lines of Python they reach. Does not return."""
    import atheris

    with instrumented():
        kinds, found = [make() for make in KINDS], Counter[str]()
        for kind in kinds:
            for sample in kind.samples:
                judge(kind, sample)  # which imports what it needs
    calls, begun = itertools.count(1), time.process_time()

    def one(data: bytes) -> None:
        if data:
            kind = kinds[data[0] % len(kinds)]
            found[f"{kind.name}: {judge(kind, data[1:])}"] += 1
        if next(calls) == count:
            report(found, begun)

    with tempfile.TemporaryDirectory() as folder:
        for k, kind in enumerate(kinds):
            for i, sample in enumerate(kind.samples):
                Path(folder, f"{k}-{i}").write_bytes(bytes([k]) + sample)
        options = [f"-runs={count}", f"-seed={seed}", "-max_len=4096", "-timeout=60", "-rss_limit_mb=2000"]
        atheris.Setup([sys.argv[0], *options, folder], one)
        atheris.Fuzz()
    return found


def report(found: Counter[str], begun: float) -> None:
    """What came out of how many."""
    for name, count in sorted(found.items()):
        print(f"{count:9,} {name}")
    print(
        f"{sum(found.values()):9,} in all, no fault, {time.process_time() - begun:.0f} s of CPU", flush=True
    )


def main() -> None:
    """The command line."""
    series: dict[str, Callable[..., Counter[str]]] = {"bits": bits, "edits": edits, "fuzz": fuzz}
    begun = time.process_time()
    report(series[sys.argv[1]](*map(int, sys.argv[2:])), begun)


if __name__ == "__main__":
    main()
