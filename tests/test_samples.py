"""Samples: which one a block reads, and that its content comes back behind each."""

from __future__ import annotations

import re
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest

import chunker
from chunker.codec import frames, samples
from chunker.codec.info import frame_info
from chunker.codec.tracing import trace
from chunker.core import native
from chunker.core.backend import SAMPLES, Contexts, Settings
from chunker.errors import CorruptArchive, ExactnessError, UsageError

PACKAGE = Path(chunker.__file__).parent
FORMAT = (PACKAGE / "core" / "FORMAT.md").read_text(encoding="utf-8")
PYTHON = b"".join(path.read_bytes() for path in sorted((PACKAGE / "codec").glob("*.py")))
FEW = Settings(Contexts.FEW, 0)


def sample_of(archive: bytes) -> int:
    """Of an archive's only block."""
    (block,) = frame_info(archive).blocks
    assert block.settings is not None
    assert block.settings.sample is not None
    return block.settings.sample


def test_they_are_those_of_the_format():
    assert len(samples.NAMES) == SAMPLES
    listed = re.findall(r"^\| (\d+) \| ([a-z-]+) \| ([\d,]+) \| `([0-9a-f]{32})` \|$", FORMAT, re.MULTILINE)
    assert [(int(number), name) for number, name, _, _ in listed] == list(enumerate(samples.NAMES, 1))
    for number, _, size, digest in listed:
        text = samples.text(int(number))
        assert len(text) == int(size.replace(",", ""))
        assert samples.CHECKSUMS[samples.name(int(number)) or ""] == digest
        text.decode("utf-8")
    assert samples.text(0) == b""


@pytest.mark.parametrize("number", range(SAMPLES + 1))
def test_what_was_compressed_behind_a_sample_comes_back(number: int):
    content = samples.text(number)[5000:5200] + b"What was compressed comes back." + bytes(range(256))
    archive = chunker.compress(content, replace(FEW, sample=number))
    assert chunker.decompress(archive) == content
    assert sample_of(archive) == number
    if number:
        assert len(archive) < len(chunker.compress(content, replace(FEW, sample=0)))


@pytest.mark.parametrize("preset", ["fast", "default", "best"])
def test_a_block_reads_the_sample_that_it_is_like(preset: str):
    content = PYTHON[:3_000]
    archive = chunker.compress(content, preset)
    assert samples.name(sample_of(archive)) == "python"
    assert chunker.decompress(archive) == content
    without = chunker.compress(content, replace(chunker.codec.presets.settings_of(preset), sample=0))
    assert len(archive) < len(without)


@pytest.mark.parametrize(
    "content",
    [
        PYTHON[: samples.LEAST_BYTES - 1],
        b"",
        b"".join(b"%d;%d\n" % (n * n % 9973, n * 31 % 997) for n in range(4000)),
        (PYTHON * 100)[: frames.MAX_BLOCK_BYTES],
    ],
    ids=["short", "empty", "strange to all", "as long as a block may be"],
)
def test_some_blocks_read_none(content: bytes):
    assert samples.choose(content, frames.MAX_BLOCK_BYTES) == 0


def test_short_contents_leave_no_trace_in_each_other():
    """A state is kept for them, and threads share it; longer ones are coded by a copy."""
    contents = [PYTHON[at : at + size] for at, size in enumerate([70, 4000, 5000, 12_000, 70, 300] * 3)]
    alone = []
    for content in contents:
        native.kept_session.cache_clear()
        alone.append(chunker.compress(content, FEW))
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(lambda content: chunker.compress(content, FEW), contents))
        assert together == alone
        assert list(threads.map(chunker.decompress, together)) == contents


def test_a_trace_counts_the_bits_of_the_archive():
    content = PYTHON[:20_000]
    archive = chunker.compress(content, FEW)
    assert sum(trace(content, FEW).bits) == pytest.approx(8 * len(archive), abs=200)
    halves = trace(content, FEW, workers=2, rank_from=12.0)
    assert sum(halves.bits) == pytest.approx(8 * len(archive), abs=200)


@pytest.mark.parametrize("part", ["txt", "words"])
@pytest.mark.parametrize(("content", "reason"), [(b"other", "was changed"), (None, "cannot be read")])
def test_a_sample_that_is_not_as_it_was_is_not_used(monkeypatch, tmp_path: Path, part, content, reason: str):
    shutil.copytree(PACKAGE / "codec" / "samples", tmp_path / "samples")
    number = samples.NAMES.index("python") + 1
    changed = tmp_path / "samples" / f"python.{part}"
    changed.unlink()
    if content is not None:
        changed.write_bytes(samples.text(number)[:4000] + content)
    monkeypatch.setattr(samples, "__file__", str(tmp_path / "samples.py"))
    samples.text.cache_clear()
    samples.part.cache_clear()
    with pytest.raises(ExactnessError, match=f"{reason}.* install chunker again"):
        chunker.compress(PYTHON[:1000], replace(FEW, sample=number))
    monkeypatch.undo()
    samples.text.cache_clear()
    samples.part.cache_clear()


def test_a_sample_that_does_not_exist_is_refused():
    with pytest.raises(UsageError, match="there is no sample 47: choose one from 0 to 46"):
        Settings(Contexts.FEW, 0, SAMPLES + 1)
    head = b"\x03\xe8\x07\x64"
    start = frames.full_start(frames.NO_FINGERPRINT)
    with pytest.raises(CorruptArchive, match="there is no sample 47"):
        chunker.decompress(start + head + bytes([(SAMPLES + 1) << 2]) + bytes(120))
