"""What users of gzip, bz2, lzma and compression.zstd are used to."""

from __future__ import annotations

import contextlib
import functools
import gc
import io
import os
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stand_in import fake_model, mixed, noise, skewed

import chunker
from chunker.codec import files, frames, presets
from chunker.codec.finder import ModelFinder
from chunker.codec.salvage import salvage
from chunker.codec.stream import Compressor, Decompressor, compress, decompress
from chunker.errors import UsageError

MODEL = fake_model()
TEXT = b"Fast, default and best differ in how many contexts there are, and in which net wakes, and when."
pytestmark = pytest.mark.usefixtures("stand_in")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.nhc"


def fast(data: Any) -> bytes:
    return compress(data, "fast")


# ---- data of any kind ------------------------------------------------------------------------------

ARRAYS: dict[str, Any] = {
    "bytes": np.frombuffer(skewed(10_000), dtype=np.uint8),
    "numbers": np.arange(3000).reshape(30, 100),
    "nothing in three columns": np.zeros((0, 3)),
    "times": np.arange(500).astype("datetime64[s]"),
    "texts": np.array(["one", "two"]),
    "one number": np.float64(3),
}


@pytest.mark.parametrize("array", ARRAYS.values(), ids=ARRAYS)
def test_any_buffer_will_do(array, path):
    data = array.tobytes()
    packed = fast(array)
    assert packed == fast(data) == fast(bytearray(data)) == fast(memoryview(data))
    with files.open(path, "wb", "fast") as file:
        assert file.write(array) == len(data)
    assert path.read_bytes() == packed
    archive: Any = np.frombuffer(packed, dtype=np.uint8)
    assert decompress(archive) == Decompressor().decompress(archive) == data


@pytest.mark.parametrize("data", ["text", None, 3, [1, 2], np.arange(10)[::2], np.ones((2, 3)).T])
@pytest.mark.parametrize("call", [fast, decompress, Compressor("fast").compress, Decompressor().decompress])
def test_what_holds_no_bytes_in_a_row_is_a_type_error(call, data):
    with pytest.raises(TypeError, match=rf"^{type(data).__name__} offers no bytes in a row: .*encode.*copy"):
        call(data)


# ---- arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("level", "preset"), [(1, "fast"), (3, "fast"), (4, "default"), (6, "default"), (9, "best")]
)
def test_levels_are_presets(level, preset, path):
    expected = compress(skewed(1000), preset, model=MODEL)
    assert compress(skewed(1000), level, model=MODEL) == expected
    with chunker.open(path, "wb", level, model=MODEL) as file:
        file.write(skewed(1000))
    assert path.read_bytes() == expected


@pytest.mark.parametrize(
    ("preset", "name"), [("fast", "small"), (2, "small"), ("default", "text"), (9, "text")]
)
def test_each_preset_has_its_built_in_model(monkeypatch, preset, name, path):
    monkeypatch.undo()  # in the core itself
    packed = compress(TEXT, preset)
    assert chunker.frame_info(packed).models == (name,)
    assert packed == compress(TEXT, preset, model=name)
    assert decompress(packed) == TEXT
    with chunker.open(path, "wb", preset) as file:
        file.write(TEXT)
    assert path.read_bytes() == packed
    alone = replace(presets.settings_of(preset), sample=0)  # with one, both need as many bytes
    assert len(compress(TEXT, alone, model=name)) < len(compress(TEXT, replace(alone, gate=0))) < len(TEXT)


PRESETS: list[Any] = ["slow", [], 0, 10, -1, 3.0, True, None, {}]
MODELS: list[Any] = [[], 3, object(), {}]
WORKERS: list[Any] = [-1, "two", 1.5]
WRONG = {
    "is not known: choose fast, default, best, or a level from 1": [{"preset": each} for each in PRESETS],
    "give a built-in's name, a file, a Model or a Stack": [{"model": each} for each in MODELS],
    "is no number of threads": [{"workers": each} for each in WORKERS],
}


@pytest.mark.parametrize("call", ["compress", "Compressor", "open"])
@pytest.mark.parametrize(
    ("message", "wrong"), [(key, each) for key, group in WRONG.items() for each in group]
)
def test_wrong_arguments_are_one_line_before_anything_is_written(call, message, wrong, path):
    path.write_bytes(b"as it was")
    given = {"compress": (b"",), "Compressor": (), "open": (path, "wb")}[call]
    with pytest.raises(UsageError, match=message) as caught:
        getattr(chunker, call)(*given, **wrong)
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"as it was"


def test_what_makes_a_model_of_itself_is_one():
    class Trained:
        def to_model(self) -> chunker.Model:
            return MODEL

    packed = compress(skewed(1000), model=Trained())
    assert packed == compress(skewed(1000), model=MODEL)
    assert decompress(packed, model=Trained()) == skewed(1000)


def test_a_files_name_in_the_current_folder_is_no_models(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text").write_bytes(b"a file of this name")
    assert chunker.load_model("text").fingerprint == chunker.load_model().fingerprint
    with pytest.raises(chunker.ChunkerError, match="not a model file"):
        chunker.load_model("./text")
    with pytest.raises(
        chunker.ChunkerError,
        match=r"no built-in model 'mine' \(there is text, small\); write a file as ./mine",
    ):
        chunker.load_model("mine")


# ---- threads ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def restless() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(before)


def all_at_once(calls: list[Callable[[], object]]) -> None:
    """Make each call in a thread of its own; the first error is raised here."""
    errors: list[BaseException] = []

    def make(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 - raised below
            errors.append(error)

    threads = [threading.Thread(target=make, args=(call,)) for call in calls]
    with restless():
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    if errors:
        raise errors[0]


@pytest.mark.usefixtures("small_blocks")
def test_threads_share_a_decompressor():
    data = mixed(60_000)
    decompressor = Decompressor(workers=2)
    found = [decompressor.decompress(fast(data), 1)]

    def take() -> None:
        while True:
            try:
                found.append(decompressor.decompress(b"", 77))
            except EOFError:
                return

    all_at_once([take] * 8)
    assert sorted(b"".join(found)) == sorted(data)


@pytest.mark.usefixtures("small_blocks")
def test_threads_share_a_writer(path):
    lines = [b"%d: %s\n" % (number, noise(9, number).hex().encode()) for number in range(1600)]
    with files.open(path, "wb", "fast", workers=2) as file:
        all_at_once([functools.partial(file.writelines, lines[at : at + 200]) for at in range(0, 1600, 200)])
    assert sorted(decompress(path.read_bytes()).splitlines(keepends=True)) == sorted(lines)


@pytest.mark.usefixtures("small_blocks")
def test_threads_share_a_compressor():
    lines = [b"%d: %s\n" % (number, noise(9, number).hex().encode()) for number in range(1600)]
    compressor = Compressor("fast", workers=2)
    found: list[bytes] = []

    def give(at: int) -> None:
        for line in lines[at : at + 200]:
            found.append(compressor.compress(line))

    all_at_once([functools.partial(give, at) for at in range(0, 1600, 200)])
    assert any(found)
    # Each result is whole blocks, but nobody knows in which order the threads came by: so without the index.
    rest = compressor.flush()
    index_bytes = int.from_bytes(rest[-frames.FOOTER_BYTES :][:8], "little")
    parts = sorted(found, key=lambda part: not part.startswith(frames.MAGIC))
    parts.append(rest[: -frames.FOOTER_BYTES - index_bytes])
    blocks = salvage(b"".join(parts), ModelFinder(None))
    assert sorted(b"".join(piece.content for piece in blocks)) == sorted(b"".join(lines))


@pytest.mark.usefixtures("small_blocks")
def test_threads_share_a_reader(path):
    data = mixed(60_000)
    path.write_bytes(fast(data))
    found: list[bytes] = []
    with files.open(path, workers=2) as file:

        def take() -> None:
            while part := file.read(77):
                found.append(part)

        all_at_once([take] * 8)
    assert sorted(b"".join(found)) == sorted(data)


# ---- file objects ----------------------------------------------------------------------------------


def test_paths_may_be_bytes(path):
    with chunker.open(os.fsencode(path), "wb", "fast") as file:
        file.write(b"content")
    with chunker.open(os.fsencode(path)) as reader:
        assert reader.read() == b"content"


class OnlyReads:
    """As tempfile.SpooledTemporaryFile of Python 3.10: it does not even say that it cannot seek."""

    def __init__(self, data: bytes) -> None:
        self.read = io.BytesIO(data).read


class OnlyWrites:
    def __init__(self) -> None:
        self.data = b""

    def write(self, data: bytes) -> int:
        self.data += data
        return len(data)


def test_a_source_needs_only_read_and_a_target_only_write():
    target: Any = OnlyWrites()
    with chunker.open(target, "wb", "fast") as file:
        file.write(skewed(100_000))
        file.flush()
    source: Any = OnlyReads(target.data)
    with chunker.open(source) as reader:
        assert not reader.seekable()
        assert reader.read() == skewed(100_000)
    assert chunker.frame_info(OnlyReads(target.data)).bytes_in == 100_000  # type: ignore[arg-type]


@pytest.mark.parametrize("file", [3, None, object(), 1.5])
@pytest.mark.parametrize("mode", ["rb", "wb", "rt"])
def test_what_is_no_file_is_one_line(file, mode):
    with pytest.raises(UsageError, match="is neither a path nor a binary file"):
        chunker.open(file, mode)


@pytest.mark.parametrize("kind", [files.ArchiveReader, files.ArchiveWriter])
def test_an_object_that_failed_to_become_one_ends_in_silence(kind):
    """pytest turns "Exception ignored in" into a warning, and warnings are errors."""

    class Broken(io.BytesIO):
        def seekable(self) -> bool:
            raise OSError("not today")

    given = [None, 1] if kind is files.ArchiveReader else ["wb", "slow", None, 1]
    with pytest.raises((OSError, UsageError)):
        kind(Broken(), *given, owned=False)
    gc.collect()


@pytest.mark.parametrize("mode", ["rb", "wb", "xb", "ab", "rt", "wt"])
def test_mode(path, mode):
    if mode[0] in "ra":
        path.write_bytes(fast(b"x"))
    with chunker.open(path, mode, "fast") as file:
        assert file.mode == mode


@pytest.mark.parametrize("mode", ["rb", "wb", "rt"])
def test_the_descriptor_is_that_of_the_file_underneath(path, mode):
    path.write_bytes(fast(b"x"))
    with open(path, "ab+") as raw:
        raw.seek(0)
        with chunker.open(raw, mode, "fast") as file:
            assert file.fileno() == raw.fileno()
    with chunker.open(io.BytesIO(fast(b"x"))) as file, pytest.raises(OSError, match="fileno"):
        file.fileno()


def test_seek_takes_whence_by_name(path):
    path.write_bytes(fast(skewed(100_000)))
    with chunker.open(path) as file:
        assert file.seek(-5, whence=2) == 99_995
        assert file.read() == skewed(100_000)[-5:]
        assert file.seek(offset=3, whence=io.SEEK_SET) == 3
