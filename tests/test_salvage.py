"""`chunker decompress --salvage`: every intact block of a damaged archive, and what is missing, by bytes."""

from __future__ import annotations

import functools
from pathlib import Path

import cli_support
import pytest
from cli_support import TEXT, one_line
from stand_in import mixed

from chunker.cli.main import chunker
from chunker.codec.archive import read_entries
from chunker.codec.stream import compress

call = functools.partial(cli_support.call, chunker)

CONTENT = mixed(9500)  # ten blocks, of every kind


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch, small_blocks, stand_in) -> None:
    monkeypatch.chdir(tmp_path)


def archive() -> bytes:
    return compress(CONTENT, preset="fast", workers=1)


def blocks(whole: bytes) -> list[tuple[int, int, bytes]]:
    """Where each block begins and ends in the archive, and its content."""
    Path("whole").write_bytes(whole)
    with open("whole", "rb") as file:
        entries = read_entries(file)
    found = []
    for each in entries:
        begin = each.payload_at - len(each.head.raw)
        content = CONTENT[each.content_at : each.content_at + each.head.size]
        found.append((begin, begin + each.head.stored_size, content))
    return found


def salvage(damaged: bytes, code: int = 2) -> tuple[bytes, list[str]]:
    """What was written, and what was complained of."""
    Path("a.nhc").write_bytes(damaged)
    result = call("decompress", "a.nhc", "--salvage", "-f", "-q", code=code)
    return Path("a").read_bytes(), result.stderr.splitlines()


def without(whole: bytes, *lost: int) -> bytes:
    return b"".join(content for k, (_, _, content) in enumerate(blocks(whole)) if k not in lost)


def test_a_sound_archive_comes_back_whole():
    assert salvage(archive() + compress(b"more", preset="fast"), code=0) == (CONTENT + b"more", [])


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("number", range(10))
def test_a_flipped_byte_costs_one_block(number, index):
    whole = archive()
    begin, end, content = blocks(whole)[number]
    damaged = bytearray(whole if index else whole[: blocks(whole)[-1][1]])
    damaged[(begin + end) // 2] ^= 1
    found, lines = salvage(bytes(damaged))
    assert found == without(whole, number)
    before = sum(len(part) for _, _, part in blocks(whole)[:number])
    assert f"{len(content):,} bytes are missing before byte {before:,} of the result" in lines[0]
    assert lines[-1].endswith(
        f"1 part is missing, {len(content):,} bytes as far as is known; the rest was written"
    )


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize(
    ("cut", "kept", "added"),
    [(4, 0, b""), (4, 20, b""), (4, 0, b"\x03abc" * 50), (4, 9, b"\x03abc" * 5000), (0, 1, b"")],
)
def test_bytes_that_are_missing_or_too_many_cost_their_blocks_alone(cut, kept, added, index):
    """From the middle of one block to the middle of the next."""
    whole = archive()
    parts = blocks(whole)
    damaged = whole[: parts[cut][0] + kept] + added + whole[parts[cut + 1][0] + 30 :]
    damaged = damaged if index else damaged[: len(damaged) - len(whole) + parts[-1][1]]
    found, lines = salvage(damaged)
    assert found == without(whole, cut, cut + 1)
    assert "bytes are missing before byte" in lines[0]
    if index:
        assert "2,000 bytes as far as is known" in lines[-1]


def test_the_beginning_may_be_missing():
    whole = archive()
    found, _ = salvage(whole[blocks(whole)[2][0] + 5 :])
    assert found == without(whole, 0, 1, 2)


def test_of_an_archive_that_is_cut_everything_certain_is_written():
    whole = archive()
    begin, end, _ = blocks(whole)[6]
    found, _ = salvage(whole[: (begin + end) // 2])
    assert CONTENT.startswith(found)
    assert len(found) >= 6000


def test_an_end_whose_checksum_is_cut_off_is_written_and_told():
    """The bits of the content are all there, but nothing says that they are right."""
    found, lines = salvage(compress(b"a short text", preset="fast")[:-2])
    assert found == b"a short text"
    assert "the last 12 bytes before byte 12 of the result lack their checksum" in lines[0]


def test_what_is_no_archive_at_all_is_told():
    Path("a.nhc").write_bytes(TEXT)
    result = call("decompress", "a.nhc", "--salvage", code=1)
    assert "holds no intact block of an archive" in one_line(result.stderr.encode())
    assert not Path("a").exists()
    result = call("decompress", "a.nhc", "--salvage", "--rm", code=2)
    assert "--salvage and --rm do not go together" in result.stderr


def test_archives_in_a_row_are_salvaged_each():
    """A small one without an index first, then two with one, of which the first is damaged."""
    small, whole = compress(b"small", preset="fast"), archive()
    begin, end, _ = blocks(whole)[3]
    damaged = bytearray(whole)
    damaged[(begin + end) // 2] ^= 1
    found, lines = salvage(small + damaged + whole)
    assert found == b"small" + without(whole, 3) + CONTENT
    assert len(lines) == 2
