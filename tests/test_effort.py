"""How much work stands where, and the time left that follows from it; without a clock."""

from __future__ import annotations

import io
import itertools
import random

import pytest

from chunker.cli.progress import Progress
from chunker.codec.effort import LEAST_BYTES, Effort, of_archive, of_content
from chunker.codec.pipes import pack, unpack
from chunker.codec.presets import PRESETS

BLOCK = 1 << 22
ZEROS = bytes(BLOCK)
NOISE = random.Random(1).randbytes(BLOCK)
WORDS = [bytes(random.Random(n).choices(b"aeinrst", k=1 + n % 8)) for n in range(300)]
TEXT = (b" ".join(random.Random(2).choices(WORDS, k=BLOCK // 5)) * 2)[:BLOCK]
LOG = b"".join(b"2026-11-%02d 12:%02d level=%d\n" % (n % 28, n % 60, n % 3) for n in range(BLOCK // 20))[
    :BLOCK
]


def of(effort: Effort, block: int) -> float:
    """The work of a block of the content."""
    return effort.until((block + 1) * BLOCK) - effort.until(block * BLOCK)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_file_is_guessed_from_pieces_of_it(preset):
    blocks = [ZEROS, TEXT, NOISE, LOG]
    file = io.BytesIO(b"what was read already" + b"".join(blocks))
    file.seek(21)
    effort = of_content(file, 4 * BLOCK, PRESETS[preset])
    assert file.tell() == 21
    assert effort.n_bytes == 4 * BLOCK
    zeros, text, noise, log = (of(effort, block) for block in range(4))
    assert 5 * zeros < noise < log / 5
    assert log <= text
    assert (preset != "default") or 1.5 * log < text < 5 * log
    assert sum((zeros, text, noise, log)) == pytest.approx(effort.total)


def test_a_block_is_coded_as_a_whole():
    """Noise beside text goes through the core, which noise alone does not."""
    half = BLOCK // 2
    file = io.BytesIO(ZEROS + NOISE[:half] + TEXT[:half] + NOISE + ZEROS)
    effort = of_content(file, 4 * BLOCK, PRESETS["default"])
    assert of(effort, 1) > 10 * of(effort, 2)


def test_less_than_is_worth_a_look_is_even():
    file = io.BytesIO(ZEROS + TEXT)
    effort = of_content(file, LEAST_BYTES - 1, PRESETS["default"])
    assert effort.until(BLOCK) == pytest.approx(effort.total * BLOCK / (LEAST_BYTES - 1))


def test_pieces_end_with_their_time():
    """Those that were looked at are spread evenly, and stand for the others."""
    ticks = itertools.count(step=0.1)
    file = io.BytesIO(b"".join([ZEROS, ZEROS, TEXT, TEXT]))
    effort = of_content(file, 4 * BLOCK, PRESETS["fast"], clock=lambda: next(ticks))
    assert of(effort, 3) > 50 * of(effort, 0)


@pytest.mark.parametrize("cut", [0, 100, BLOCK])
def test_a_file_that_shrinks_meanwhile(cut):
    assert of_content(io.BytesIO(ZEROS[:cut]), 4 * BLOCK, PRESETS["default"]).n_bytes == 4 * BLOCK


def test_an_archive_tells_by_its_heads():
    blocks = [ZEROS[:300_000], NOISE[:300_000], TEXT[:100_000], LOG[:100_000]]
    packed = io.BytesIO()
    for content in blocks:
        pack(io.BytesIO(content), packed, "fast", workers=1)
    effort = of_archive(packed)
    ends = [0, *itertools.accumulate(map(len, blocks))]
    zeros, noise, text, log = (effort.until(b) - effort.until(a) for a, b in itertools.pairwise(ends))
    assert effort.n_bytes == ends[-1]
    assert max(zeros, noise) < 0.01 * min(text, log)
    assert log < text


def test_nothing_is_no_work():
    packed = io.BytesIO()
    pack(io.BytesIO(b""), packed, "fast")
    assert of_archive(packed).total == 0


# ---- the bar ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("speed", [0.5, 3.0])
def test_time_left_goes_by_work(speed):
    """Whatever the order, and however fast the machine."""
    effort, now = Effort([(100, 1.0), (100, 90.0), (100, 9.0)]), [0.0]
    bar = Progress("x", effort, clock=lambda: now[0])
    assert bar.seconds_left is None
    for at, n_bytes in ((0, 100), (200, 50), (100, 100), (250, 50)):
        now[0] += speed * (effort.until(at + n_bytes) - effort.until(at))
        bar.advance(n_bytes, at)
        assert bar.seconds_left == pytest.approx(speed * 100 - now[0])
        assert bar.share == pytest.approx(now[0] / (speed * 100))
    assert bar.done == 300


def test_bytes_count_alike_where_nothing_is_known():
    now = [0.0]
    bar = Progress("x", 400, clock=lambda: now[0])
    for _ in range(2):
        now[0] += 3
        bar.advance(100)
    assert bar.seconds_left == 6
    bar.advance(900)
    assert bar.seconds_left == 0


def test_nothing_is_told_of_a_pipe():
    bar = Progress("x", None, clock=lambda: 1.0)
    bar.advance(100)
    assert bar.seconds_left is None


def test_the_bar_ends_with_the_work():
    """All of the content of two archives in a row is told, at its places, by two threads."""
    packed = io.BytesIO()
    for content in (LOG[:70_000], ZEROS[:70_000]):
        pack(io.BytesIO(content), packed, "fast", workers=2)
    bar = Progress("x", of_archive(packed))
    packed.seek(0)
    unpack(packed, None, workers=2, advance=bar.advance)
    assert bar.done == 140_000
    assert bar.share == pytest.approx(1)
