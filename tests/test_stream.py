"""Compressor, Decompressor, compress and decompress."""

from __future__ import annotations

import functools
import io
import signal
import sys
import threading
from collections.abc import Callable

import pytest
from conftest import join_all, learning_threads
from counting_model import CountingModel, CountingStack, mixed, noise, skewed
from hypothesis import given, settings
from hypothesis import strategies as st
from small_blocks import cut_small

from chunker.codec import archive, blocks, pool, stream
from chunker.codec.blocks import Model
from chunker.codec.frames import Kind
from chunker.codec.stream import Compressor, Decompressor, compress, decompress
from chunker.errors import CorruptArchive, UsageError, WrongModel

MODEL = CountingModel()
fast = functools.partial(compress, model=MODEL, preset="fast")  # where learning would only take time


INPUTS = {
    "empty": b"",
    "one byte": b"x",
    "record": b"GET /index.html HTTP/1.1 200 OK 5120 bytes in 12 ms from cache",
    "just small": skewed(blocks.SMALL_BYTES - 1),
    "just large": skewed(blocks.SMALL_BYTES),
    "noise": noise(200_000),
    "zeros": bytes(3 * blocks.PRESETS["fast"].block_bytes),
}


@pytest.mark.parametrize("data", INPUTS.values(), ids=INPUTS.keys())
def test_round_trip(data):
    packed = fast(data)
    assert decompress(packed, model=MODEL) == data
    info = archive.read_info(io.BytesIO(packed))
    assert (info.bytes_in, info.bytes_out) == (len(data), len(packed))
    assert [b.bytes_in for b in info.blocks] == (blocks.PRESETS["fast"].plan(len(data)) or [0])
    assert len(packed) <= len(data) * 1.001 + 64


@pytest.mark.usefixtures("small_blocks", "no_learning_left")
@pytest.mark.parametrize("n_bytes", [0, 1, 70, 300, 499, 1300])
def test_round_trip_of_each_preset(preset, n_bytes, tiny_model):
    """With a net that learns, at once and in pieces."""
    data = (b"".join(b"It was the %dth of them.\n" % number for number in range(100)))[:n_bytes]
    packed = compress(data, tiny_model, preset=preset)
    assert decompress(packed, model=tiny_model) == data
    compressor = Compressor(tiny_model, threads=2, preset=preset)
    pieces = [compressor.compress(data[at : at + 450]) for at in range(0, len(data), 450)]
    assert b"".join(pieces) + compressor.flush() == packed
    decompressor = Decompressor(tiny_model, threads=2)
    assert (
        b"".join(decompressor.decompress(packed[at : at + 150]) for at in range(0, len(packed), 150)) == data
    )
    info = archive.read_info(io.BytesIO(packed))
    if n_bytes < 300:
        assert len(info.blocks) == 1
    else:
        plan = blocks.PRESETS[preset].plan(n_bytes)
        assert [b.bytes_in for b in info.blocks] == (plan if len(info.blocks) > 1 else [n_bytes])
    for block in info.blocks:
        assert not block.kind.needs_model or block.kind is blocks.PRESETS[preset].kind_of(block.bytes_in)


def test_the_default_preset_is_the_default():
    data = skewed(100)
    assert compress(data, MODEL) == compress(data, MODEL, preset="default")
    compressor = Compressor(MODEL)
    assert compressor.compress(data) + compressor.flush() == compress(data, MODEL)
    assert len({compress(data, MODEL, preset=preset) for preset in blocks.PRESETS}) == len(blocks.PRESETS)


@pytest.mark.parametrize("call", [compress, lambda data, model, preset: Compressor(model, preset=preset)])
def test_unknown_presets(call):
    with pytest.raises(UsageError, match="'slow' is not known: choose one of fast, default, best"):
        call(b"", MODEL, preset="slow")


def test_small_input_is_compact():
    assert len(compress(b"", MODEL)) == 9
    assert len(compress(noise(60), MODEL)) == 60 + 9
    assert len(fast(skewed(blocks.SMALL_BYTES - 1))) < len(fast(skewed(blocks.SMALL_BYTES)))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("preset", "n_bytes"),
    [
        *(("fast", n_bytes) for n_bytes in (299, 300, 301, 1999, 2000, 2001, 12_345)),
        ("default", 499),
        ("default", 1300),
        ("best", 2345),
    ],
)
def test_output_depends_on_nothing_but_the_bytes(preset, n_bytes):
    data = mixed(n_bytes)
    expected = compress(data, MODEL, threads=1, preset=preset)
    for threads in (2, 3, 8) if preset == "fast" else (3,):
        assert compress(data, MODEL, threads=threads, preset=preset) == expected
    for step in (1, 7, 999, 1000, 5000) if preset == "fast" else (77,):
        compressor = Compressor(MODEL, threads=2, preset=preset)
        pieces = [compressor.compress(data[at : at + step]) for at in range(0, len(data), step)]
        assert b"".join(pieces) + compressor.flush() == expected
    for threads in (1, 2, 3, 8):
        assert decompress(expected, model=MODEL, threads=threads) == data


@pytest.mark.usefixtures("small_blocks")
def test_all_kinds_meet_in_one_archive():
    inputs = {"fast": mixed(12_000), "default": mixed(5000) + skewed(400), "best": mixed(4000)}
    packed = b"".join(compress(data, MODEL, preset=preset) for preset, data in inputs.items())
    packed += compress(skewed(400), MODEL)  # a small block
    info = archive.read_info(io.BytesIO(packed))
    assert {b.kind for b in info.blocks} == set(Kind)
    assert decompress(packed, model=MODEL) == b"".join(inputs.values()) + skewed(400)


@pytest.mark.usefixtures("small_blocks")
def test_compressor_hands_out_early_and_holds_little():
    compressor = Compressor(MODEL, threads=2, preset="fast")
    out = b"".join(compressor.compress(mixed(1000)) for _ in range(50))
    assert len(archive_blocks(out)) >= 50 - 2 - 2 * 2 - 1
    assert decompress(out + compressor.flush(), model=MODEL) == mixed(1000) * 50


def archive_blocks(data: bytes) -> list[archive.Block]:
    parser = archive.Parser()
    parser.feed(data)
    return list(iter(parser.next_block, None))


def test_compressor_is_used_up_by_flush():
    compressor = Compressor(MODEL)
    compressor.flush()
    for call in (compressor.flush, lambda: compressor.compress(b"x")):
        with pytest.raises(UsageError, match="use a new one"):
            call()


@pytest.mark.parametrize("wrap", [bytearray, memoryview, lambda d: memoryview(d).cast("H")])
def test_any_buffer_will_do(wrap):
    data = skewed(10_000)
    packed = fast(wrap(data))
    assert packed == fast(data)
    assert decompress(bytearray(packed), model=MODEL) == data


@pytest.mark.parametrize("threads", [-1, -8])
def test_threads_cannot_be_negative(threads):
    with pytest.raises(UsageError, match="threads"):
        compress(b"", MODEL, threads=threads)


def test_threads_default_to_the_cores():
    assert pool.thread_count(None) == pool.thread_count(0) == pool.core_count() >= 1
    assert pool.thread_count(3) == 3


@settings(max_examples=40, deadline=None)
@given(
    n_bytes=st.integers(0, 5000),
    step=st.integers(1, 4000),
    max_length=st.integers(0, 3000),
    threads=st.integers(1, 3),
)
def test_decompressor_keeps_to_max_length(n_bytes, step, max_length, threads):
    with pytest.MonkeyPatch.context() as patch:
        cut_small(patch)
        data = mixed(n_bytes)
        packed = fast(data) + b"the rest"
    decompressor = Decompressor(MODEL, threads=threads)
    out = b""
    for at in range(0, len(packed), step):
        if decompressor.eof:
            break
        out += (piece := decompressor.decompress(packed[at : at + step], max_length))
        assert len(piece) <= max_length
        while not decompressor.needs_input and not decompressor.eof:
            out += (piece := decompressor.decompress(b"", max_length or 1))
            assert 0 <= len(piece) <= (max_length or 1)
    assert decompressor.eof
    assert not decompressor.needs_input
    assert out == data
    assert b"the rest".startswith(decompressor.unused_data)
    with pytest.raises(EOFError, match="new Decompressor"):
        decompressor.decompress(b"")


def test_decompressor_at_once():
    data = skewed(100_000)
    packed = fast(data)
    decompressor = Decompressor(MODEL)
    assert decompressor.needs_input
    assert decompressor.decompress(packed + packed) == data
    assert decompressor.eof
    assert decompressor.unused_data == packed
    join_all()


def test_decompressor_holds_no_bomb():
    """80 blocks that fit into one read: only what is asked for is unfolded."""
    block_bytes = blocks.PRESETS["fast"].block_bytes
    packed = fast(bytes(80 * block_bytes))
    assert len(packed) < archive.READ_BYTES
    decompressor = Decompressor(MODEL, threads=2)
    assert len(decompressor.decompress(packed, 10)) == 10
    assert len(decompressor._ready) <= block_bytes
    assert len(decompressor._decoder._waiting) <= 4
    decompressor.close()


def test_decompressor_does_not_go_on_after_an_error():
    packed = bytearray(fast(noise(100_000)))
    packed[1000] ^= 1
    decompressor = Decompressor(MODEL)
    with pytest.raises(CorruptArchive):
        decompressor.decompress(packed)
    with pytest.raises(UsageError, match="use a new one"):
        decompressor.decompress(b"")


def test_cut_off_is_for_the_caller_to_see():
    packed = fast(skewed(1000))
    decompressor = Decompressor(MODEL)
    assert decompressor.decompress(packed[:-1]) == b""
    assert not decompressor.eof
    assert decompressor.needs_input
    assert decompressor.decompress(packed[-1:]) == skewed(1000)
    assert decompressor.eof


@pytest.mark.parametrize("threads", [1, 2])
def test_concatenated_archives(threads):
    order = ["empty", "record", "noise", "one byte", "empty", "just large", "zeros", "record"]
    packed = b"".join(fast(INPUTS[name]) for name in order)
    assert decompress(packed, model=MODEL, threads=threads) == b"".join(INPUTS[name] for name in order)


def test_many_small_archives_in_a_row():
    records = [b"record %d" % number for number in range(3000)]
    packed = b"".join(fast(record, threads=1) for record in records)
    assert decompress(packed, model=MODEL) == b"".join(records)


def test_models_may_differ_from_archive_to_archive(monkeypatch):
    other = CountingModel(bytes(range(100, 132)))
    known = {"first": MODEL, "second": other}
    monkeypatch.setattr(stream, "_builtin", known.__getitem__)
    monkeypatch.setattr("chunker.modelfile.builtin_models", lambda: list(known))
    data = skewed(500)
    packed = fast(data) + fast(data, model=other)
    assert decompress(packed) == 2 * data
    assert decompress(packed, model=other) == 2 * data


@pytest.mark.parametrize("n_bytes", [500, 100_000])
def test_wrong_model(n_bytes):
    packed = fast(skewed(n_bytes))
    for model in (None, CountingModel(bytes(32))):
        with pytest.raises(WrongModel, match=r"01020304.*-m MODEL") as caught:
            decompress(packed, model=model)
        assert "\n" not in str(caught.value)


def test_stored_blocks_need_no_model():
    data = noise(100_000)
    assert decompress(fast(data), model=CountingModel(bytes(32))) == data


class Interrupting(CountingModel):
    """Sends the main thread an interrupt in the middle of the third block."""

    def integer_stack(self) -> CountingStack:
        super().integer_stack()
        if self.sessions == 3:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        return CountingStack()


@pytest.mark.skipif(sys.platform == "win32", reason="no pthread_kill")
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("way", ["compress", "compress a stretch", "decompress"])
def test_an_interrupt_stops_everything(way, threads):
    data = skewed(40_000)
    ways: dict[str, Callable[[Model], bytes]] = {
        "compress": lambda model: fast(data, model=model, threads=threads),
        "compress a stretch": lambda model: compress(data, model, threads=threads),
        "decompress": functools.partial(_decompress, fast(data), threads),
    }
    model = Interrupting()
    with pytest.raises(KeyboardInterrupt):
        ways[way](model)
    join_all()
    assert model.sessions <= 3 + 2 * threads, "blocks were begun after the interrupt"


def _decompress(packed: bytes, threads: int, model: Model) -> bytes:
    return decompress(packed, model=model, threads=threads)


class FailingModel(CountingModel):
    def integer_stack(self) -> CountingStack:
        raise RuntimeError("broken")


def test_a_failing_model_stops_everything():
    with pytest.raises(RuntimeError, match="broken"):
        compress(skewed(300_000), FailingModel(), threads=2, preset="fast")
    join_all()


def some_text(n_bytes: int) -> bytes:
    return b"".join(b"It was the %dth of them.\n" % number for number in range(n_bytes // 20))[:n_bytes]


def in_blocks(data: bytes, model: Model, preset: str = "default") -> bytes:
    """Compressed without an lzma block over several blocks."""
    with pytest.MonkeyPatch.context() as patch:
        cut_small(patch, stretch_blocks=0)
        return compress(data, model, preset=preset)


@pytest.mark.usefixtures("small_blocks", "no_learning_left")
@pytest.mark.parametrize("threads", [1, 3])
def test_no_thread_that_learns_is_left(tiny_model, threads, preset):
    text = some_text(1600)
    packed = compress(text, tiny_model, threads=threads, preset=preset)
    assert not learning_threads()
    assert decompress(packed, model=tiny_model, threads=threads) == text
    packed = in_blocks(text, tiny_model, preset)
    assert not learning_threads()
    assert decompress(packed, model=tiny_model, threads=threads) == text
    assert not learning_threads()
    damaged = bytearray(packed)
    damaged[60] ^= 1
    with pytest.raises(CorruptArchive):
        decompress(damaged, model=tiny_model, threads=threads)


@pytest.mark.usefixtures("small_blocks", "no_learning_left")
def test_giving_up_ends_learning(tiny_model):
    packed = in_blocks(some_text(4000), tiny_model)
    compressor = Compressor(tiny_model, threads=2, advance=give_up)
    with pytest.raises(KeyboardInterrupt):
        compressor.compress(some_text(9000))
    with pytest.raises(UsageError, match="interrupted"):
        compressor.flush()
    join_all()
    decompressor = Decompressor(tiny_model, threads=2)
    decompressor.decompress(packed[: len(packed) * 3 // 4], 1)
    decompressor.close()
    join_all()
    reading = stream.contents(io.BytesIO(packed), tiny_model, threads=2)
    assert next(reading) == some_text(4000)[:1000]
    reading.close()


def give_up(n_bytes: int) -> None:
    """After the first block, while the next ones are coded."""
    assert n_bytes == 1000
    assert learning_threads()
    raise KeyboardInterrupt


@pytest.mark.usefixtures("small_blocks")
def test_more_threads_than_places():
    """Blocks with contexts wait for each other; neither the result nor the end depends on it."""
    data = skewed(3500)
    packed = compress(data, MODEL, threads=8)
    assert packed == compress(data, MODEL, threads=1)
    assert decompress(packed, model=MODEL, threads=8) == data
