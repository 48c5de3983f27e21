"""Sources and targets at URLs, as fsspec reads them; here in memory."""

from __future__ import annotations

import pytest
from cli_support import TEXT, call

import chunker
from chunker import extras
from chunker.cli.compress import compress
from chunker.cli.decompress import decompress
from chunker.cli.test import test as check
from chunker.codec.urls import is_url

fsspec = pytest.importorskip("fsspec")


@pytest.fixture
def memory():
    system = fsspec.filesystem("memory")
    system.store.clear()
    yield system
    system.store.clear()


def test_what_is_a_url():
    assert is_url("s3://bucket/name")
    assert is_url("memory://x")
    assert not any(
        map(is_url, ("notes.txt", "C:\\notes", "c://x", "./s3://x", "/a/b://c", "", None, b"s3://x"))
    )


def test_there_and_back(memory):
    memory.pipe("/in/a.txt", TEXT)
    call(compress, "memory://in/a.txt")
    assert memory.cat("/in/a.txt.nhc") == chunker.compress(TEXT)
    assert ", OK" in call(check, "memory://in/a.txt.nhc").stdout
    call(decompress, "memory://in/a.txt.nhc", "-o", "memory://out/b.txt")
    assert memory.cat("/out/b.txt") == TEXT


def test_from_a_file_to_a_url_and_back(memory, tmp_path):
    source, copy = tmp_path / "a.txt", tmp_path / "b.txt"
    source.write_bytes(TEXT)
    call(compress, str(source), "-o", "memory://a.nhc", "--verify")
    call(decompress, "memory://a.nhc", "-o", str(copy))
    assert copy.read_bytes() == TEXT


def test_a_target_appears_whole_or_not_at_all(memory):
    archive = chunker.compress(TEXT)
    memory.pipe("/bad.nhc", archive[:-1])
    assert "cut off" in call(decompress, "memory://bad.nhc", code=1).stderr
    assert not memory.exists("/bad")
    memory.pipe("/bad", b"as it was")
    call(decompress, "memory://bad.nhc", "-f", code=1)
    assert memory.cat("/bad") == b"as it was"


def test_an_existing_target_is_refused_without_force(memory):
    memory.pipe({"/a": TEXT, "/a.nhc": b"old"})
    assert "exists; replace it with -f" in call(compress, "memory://a", code=1).stderr
    assert memory.cat("/a.nhc") == b"old"
    call(compress, "memory://a", "-f")
    assert memory.cat("/a.nhc") == chunker.compress(TEXT)


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["memory://none"], "memory://none: "),
        (["nosuch://x/y"], "choose a scheme that fsspec knows"),
        (["memory://a", "--rm"], "leave it out"),
        (["memory://a", "-o", "memory://a", "-f"], "same file"),
    ],
)
def test_failures_are_one_line(memory, arguments, told):
    memory.pipe("/a", TEXT)
    stderr = call(compress, *arguments, code=1).stderr
    assert told in stderr
    assert stderr.count("\n") == 1


def test_a_file_system_without_its_package_is_named(memory, monkeypatch):
    def lacks(url: str, **options: object) -> None:
        raise ImportError("Install s3fs to access S3")

    monkeypatch.setattr("fsspec.core.url_to_fs", lacks)
    assert "Install s3fs to access S3" in call(compress, "s3://bucket/a", code=1).stderr


def test_without_fsspec_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(extras, "find_spec", lambda name: None)
    assert 'pip install ".[url]"' in call(compress, "s3://bucket/a", code=1).stderr


def test_in_python(memory):
    with chunker.open("memory://notes.nhc", "wt", encoding="utf-8") as file:
        file.write("one line\n")
    with chunker.open("memory://notes.nhc") as file:
        assert file.read() == b"one line\n"
    assert chunker.frame_info("memory://notes.nhc").bytes_in == 9
