"""`chunker.open`: archives as file objects."""

from __future__ import annotations

import contextlib
import functools
import io
from pathlib import Path

import pytest
from conftest import join_all
from hypothesis import given, settings
from hypothesis import strategies as st
from small_blocks import cut_small
from stand_in import fake_model, mixed, noise, skewed

from chunker.codec import files, frames
from chunker.codec.stream import compress, decompress
from chunker.errors import CorruptArchive, ModelNotFound, TruncatedArchive, UsageError

MODEL = fake_model()
fast = functools.partial(compress, preset="fast")
pytestmark = pytest.mark.usefixtures("stand_in")


@pytest.fixture
def path(tmp_path: Path) -> str:
    return str(tmp_path / "a.nhc")


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("threads", [1, 2])
def test_open_writes_and_reads(path, preset, threads):
    data = mixed(10_000)
    with files.open(path, "wb", model=MODEL, workers=threads, preset=preset) as file:
        assert file.writable()
        assert not file.readable()
        for at in range(0, len(data), 777):
            file.write(data[at : at + 777])
        file.flush()
        assert file.tell() == len(data)
    assert Path(path).read_bytes() == compress(data, model=MODEL, preset=preset)
    with files.open(path, model=MODEL, workers=threads) as reader:
        assert reader.readable()
        assert not reader.writable()
        assert reader.name == path
        assert reader.read(10) == data[:10]
        assert reader.tell() == 10
        into = bytearray(20)
        assert reader.readinto(into) == 20
        assert into == data[10:30]
        assert reader.read() == data[30:]
        assert reader.read() == b""
    assert file.closed
    assert reader.closed


@pytest.mark.usefixtures("small_blocks")
@settings(max_examples=25, deadline=None)
@given(moves=st.lists(st.tuples(st.integers(0, 11_000), st.integers(0, 3000), st.integers(0, 2)), max_size=8))
def test_seeking_equals_slicing(moves):
    data = mixed(5000)
    packed = fast(data) + fast(b"") + fast(data[:200]) + fast(data[:4800])
    plain = io.BytesIO(data + data[:200] + data[:4800])
    with files.open(io.BytesIO(packed), model=MODEL, workers=2) as file:
        for target, size, whence in moves:
            offset = (target, target - plain.tell(), target - 10_000)[whence]
            assert file.seek(offset, whence) == plain.seek(offset, whence)
            assert file.read(size) == plain.read(size)
            assert file.tell() == plain.tell()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("threads", [1, 2])
def test_seeking_decodes_only_what_is_read(stand_in, threads):
    packed = fast(skewed(50_000))
    stand_in.calls = 0
    with files.open(io.BytesIO(packed), workers=threads) as file:
        file.seek(-2500, io.SEEK_END)
        assert file.read(10) == skewed(50_000)[-2500:-2490]
        assert stand_in.calls == 1, "what follows was decoded, too"
        assert file.read() == skewed(50_000)[-2490:]
        assert stand_in.calls == 3


@pytest.mark.parametrize("target", [(-1, 0), (-10_000, 1), (-200_000, 2), (0, 7)])
def test_seeking_nowhere(target):
    with (
        files.open(io.BytesIO(fast(skewed(100_000))), model=MODEL) as file,
        pytest.raises(ValueError, match=r"position|whence"),
    ):
        file.seek(*target)


def test_reading_what_cannot_seek():
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    data = skewed(100_000)
    with files.open(Pipe(fast(data)), model=MODEL) as file:
        assert not file.seekable()
        with pytest.raises(io.UnsupportedOperation):
            file.seek(5)
        assert file.read() == data


def test_a_file_handed_over_in_its_middle_is_a_stream():
    raw = io.BytesIO(b"prefix" + compress(b"content", model=MODEL))
    raw.read(6)
    with files.open(raw, model=MODEL) as file:
        assert not file.seekable()
        assert file.read() == b"content"
    assert not raw.closed


def test_open_as_text(path):
    text = "naïve Zeile\n\n漢字 €\n" * 50
    with files.open(path, "wt", model=MODEL, encoding="utf-8", newline="\n") as file:
        file.write(text)
    with files.open(path, "rt", model=MODEL, encoding="utf-8") as file:
        assert list(file) == text.splitlines(keepends=True)
        file.seek(0)
        assert file.read() == text
    assert decompress(Path(path).read_bytes(), model=MODEL) == text.encode()


def test_open_appends_and_excludes(path):
    for mode, content in (("xb", b"one "), ("ab", b"two "), ("a", b"three")):
        with files.open(path, mode, model=MODEL) as file:
            assert isinstance(file, files.ArchiveWriter)
            file.write(content)
    with pytest.raises(FileExistsError):
        files.open(path, "x", model=MODEL)
    with files.open(path, model=MODEL) as reader:
        assert reader.read() == b"one two three"


@pytest.mark.parametrize("mode", ["", "q", "rw", "rbt", "r+", "wbb"])
def test_open_knows_its_modes(path, mode):
    with pytest.raises(UsageError, match="mode"):
        files.open(path, mode, model=MODEL)


def test_open_wants_text_arguments_for_text_only(path):
    with pytest.raises(UsageError, match="'rt'"):
        files.open(path, "rb", model=MODEL, encoding="utf-8")


@pytest.mark.parametrize("mode", ["wb", "wt"])
def test_leaving_by_an_exception_completes_nothing(monkeypatch, path, mode):
    cut_small(monkeypatch)
    content = skewed(20_000)
    with contextlib.suppress(ZeroDivisionError), files.open(path, mode, model=MODEL, preset="fast") as file:
        file.write(content if mode == "wb" else content.decode())
        _ = 1 / 0
    assert file.closed
    with pytest.raises(TruncatedArchive), files.open(path, "rb", model=MODEL) as file:
        file.read()


def test_writing_to_a_closed_archive(path):
    with files.open(path, "wb", model=MODEL) as file:
        pass
    with pytest.raises(ValueError, match="closed"):
        file.write(b"x")
    file.close()


def test_a_bad_model_is_noticed_before_the_file_is_touched(path):
    Path(path).write_bytes(b"as it was")
    for mode in ("rb", "wb", "at"):
        with pytest.raises(ModelNotFound):
            files.open(path, mode, model="no such model")
    assert Path(path).read_bytes() == b"as it was"


def test_an_unknown_preset_is_noticed_before_the_file_is_touched(path):
    Path(path).write_bytes(b"as it was")
    with pytest.raises(UsageError, match="preset 'slow'"):
        files.open(path, "wb", model=MODEL, preset="slow")
    assert Path(path).read_bytes() == b"as it was"


@pytest.mark.usefixtures("small_blocks")
def test_no_thread_is_left(path):
    """Read, sought in, given up in the middle; and where a `with` is left by an exception."""
    data = skewed(30_000)
    with files.open(path, "wb", workers=2, preset="fast") as file:
        file.write(data)
    with files.open(path, workers=2) as reader:
        reader.seek(12_000)
        assert reader.read(20) == data[12_000:12_020]
        reader.seek(10)
        assert reader.read(10) == data[10:20]
    with contextlib.suppress(ZeroDivisionError), files.open(path, "wb", workers=2, preset="fast") as file:
        file.write(data * 3)
        _ = 1 / 0
    join_all()


def test_a_reader_gets_what_is_sound_before_the_damage(monkeypatch):
    """Then the error, never the damaged content."""
    cut_small(monkeypatch, 10_000)
    data = noise(50_000)
    packed = bytearray(fast(data))
    packed[frames.START_BYTES + 25_000] ^= 64
    with files.open(io.BytesIO(packed)) as file:
        assert file.read(20_000) == data[:20_000]
        with pytest.raises(CorruptArchive):
            file.read(1)


def test_reading_stops_where_the_archive_is_cut():
    packed = fast(skewed(100_000))
    with files.open(io.BytesIO(packed[:-1]), model=MODEL) as file:
        assert file.read(50_000) == skewed(100_000)[:50_000]
        with pytest.raises(TruncatedArchive):
            file.read()
