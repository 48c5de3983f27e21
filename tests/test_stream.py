"""Compressor, Decompressor, compress and decompress."""

from __future__ import annotations

import functools
import io
import itertools
import signal
import sys
import threading
from dataclasses import replace

import pytest
from conftest import join_all
from hypothesis import given, settings
from hypothesis import strategies as st
from small_blocks import cut_small
from stand_in import StandIn, fake_model, mixed, noise, skewed, until_stopped, use

from chunker.codec import archive, finder, frames, presets, stream
from chunker.codec.frames import Kind
from chunker.codec.info import frame_info
from chunker.codec.pipes import unpack
from chunker.codec.stream import Compressor, Decompressor, compress, decompress
from chunker.core.backend import Contexts, Settings, Stop
from chunker.core.reference import PythonBackend
from chunker.errors import CorruptArchive, ModelNotFound, TruncatedArchive, UsageError, WrongModel
from chunker.models import Model

MODEL = fake_model()
fast = functools.partial(compress, preset="fast")
alone = functools.partial(compress, preset=Settings(Contexts.FEW, 0))
pytestmark = pytest.mark.usefixtures("stand_in")


INPUTS = {
    "empty": b"",
    "one byte": b"x",
    "record": b"GET /index.html HTTP/1.1 200 OK 5120 bytes in 12 ms from cache",
    "just small": skewed(presets.SMALL_BYTES - 1),
    "just large": skewed(presets.SMALL_BYTES),
    "noise": noise(200_000),
    "zeros": bytes(5 << 20),
}


@pytest.mark.parametrize("data", INPUTS.values(), ids=INPUTS.keys())
def test_round_trip(data):
    packed = fast(data)
    assert decompress(packed) == data
    info = frame_info(packed)
    assert (info.bytes_in, info.bytes_out) == (len(data), len(packed))
    assert [b.bytes_in for b in info.blocks] == (presets.plan(len(data)) or [0])
    assert len(packed) <= len(data) * 1.001 + 64


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("n_bytes", [0, 1, 70, 300, 999, 4600])
def test_round_trip_of_each_preset_in_the_core(monkeypatch, preset, n_bytes, tiny_model):
    """At once and in pieces."""
    monkeypatch.undo()
    cut_small(monkeypatch)
    data = (b"".join(b"It was the %dth of them.\n" % number for number in range(200)))[:n_bytes]
    packed = compress(data, model=tiny_model, preset=preset)
    assert decompress(packed, model=tiny_model) == data
    compressor = Compressor(model=tiny_model, workers=2, preset=preset)
    pieces = [compressor.compress(data[at : at + 450]) for at in range(0, len(data), 450)]
    assert b"".join(pieces) + compressor.flush() == packed
    decompressor = Decompressor(model=tiny_model, workers=2)
    assert (
        b"".join(decompressor.decompress(packed[at : at + 150]) for at in range(0, len(packed), 150)) == data
    )
    for block in frame_info(packed).blocks:
        if block.settings is not None:
            assert replace(block.settings, sample=None) == presets.PRESETS[preset]
    assert compressor.model_name in (None, tiny_model.name)


def test_the_default_preset_is_the_default():
    data = skewed(1000)
    assert compress(data, model=MODEL) == compress(data, model=MODEL, preset="default")
    compressor = Compressor(model=MODEL)
    assert compressor.compress(data) + compressor.flush() == compress(data, model=MODEL)
    assert len({compress(data, model=MODEL, preset=preset) for preset in presets.PRESETS}) == len(
        presets.PRESETS
    )


@pytest.mark.parametrize("n_bytes", [1000, 100_000])
def test_settings_of_ones_own(n_bytes):
    own = Settings(Contexts.ALL, 17, sample=3)
    data = skewed(n_bytes)
    packed = compress(data, model=MODEL, preset=own)
    info = frame_info(packed)
    assert {block.settings for block in info.blocks} == {own}
    assert MODEL.fingerprint.startswith(info.fingerprints[0])
    assert decompress(packed, model=MODEL) == data


@pytest.mark.parametrize("n_bytes", [1000, 100_000])
@pytest.mark.parametrize("own", [Settings(Contexts.FEW, 0), Settings(Contexts.ALL, 0)])
def test_without_a_net_no_model_is_looked_for(monkeypatch, own, n_bytes):
    def lost(*_: object) -> None:
        raise AssertionError("it was looked for")

    monkeypatch.setattr("chunker.models.load_model", lost)
    monkeypatch.setattr("chunker.models.builtin_models", lost)
    data = skewed(n_bytes)
    compressor = Compressor(preset=own)
    packed = compressor.compress(data) + compressor.flush()
    assert compressor.model_name is None
    assert decompress(packed) == data
    assert frame_info(packed).fingerprints == ()
    if n_bytes > presets.SMALL_BYTES:
        assert packed[5:13] == frames.NO_FINGERPRINT


def test_a_wrong_name_is_an_error_whatever_the_preset(preset):
    with pytest.raises(ModelNotFound):
        compress(b"", model="no such model", preset=preset)


def test_small_input_is_compact():
    assert len(compress(b"", model=MODEL)) == 9
    assert len(compress(noise(60), model=MODEL)) == 60 + 9
    assert len(fast(skewed(presets.SMALL_BYTES - 1))) < len(fast(skewed(presets.SMALL_BYTES)))


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("n_bytes", [299, 300, 301, 999, 1000, 3999, 4000, 4001, 12_345])
def test_output_depends_on_nothing_but_the_bytes(preset, n_bytes):
    data = mixed(n_bytes)
    expected = compress(data, model=MODEL, workers=1, preset=preset)
    for threads in (2, 3, 8):
        assert compress(data, model=MODEL, workers=threads, preset=preset) == expected
    for step in (1, 7, 999, 1000, 5000):
        compressor = Compressor(model=MODEL, workers=2, preset=preset)
        pieces = [compressor.compress(data[at : at + step]) for at in range(0, len(data), step)]
        assert b"".join(pieces) + compressor.flush() == expected
    for threads in (1, 2, 3, 8):
        assert decompress(expected, model=MODEL, workers=threads) == data


@pytest.mark.usefixtures("small_blocks")
def test_all_kinds_meet_in_one_archive():
    packed = compress(mixed(12_000), model=MODEL) + alone(mixed(5000))
    assert {b.kind for b in frame_info(packed).blocks} == set(Kind)
    assert decompress(packed, model=MODEL) == mixed(12_000) + mixed(5000)


@pytest.mark.usefixtures("small_blocks")
def test_compressor_hands_out_early_and_holds_little():
    compressor = Compressor(workers=2, preset="fast")
    out = b"".join(compressor.compress(mixed(1000)) for _ in range(50))
    assert len(archive_blocks(out)) >= 50 - 4 - 2 * 2 - 1
    assert decompress(out + compressor.flush()) == mixed(1000) * 50


@pytest.mark.usefixtures("small_blocks")
def test_progress_is_told():
    told: list[range] = []

    def advance(n_bytes: int, at: int) -> None:
        told.append(range(at, at + n_bytes))

    def all_told() -> list[int]:
        return sorted(position for part in told for position in part)

    compressor = Compressor(workers=2, preset="fast", advance=advance)
    packed = compressor.compress(mixed(9000)) + compressor.flush()
    assert all_told() == [*range(9000)]
    told.clear()
    unpack(io.BytesIO(packed * 2), None, workers=2, advance=advance)
    assert all_told() == [*range(18_000)]
    told.clear()
    compressor = Compressor(preset="fast", advance=advance)
    compressor.compress(b"small")
    compressor.flush()
    assert told == [range(5)]


def archive_blocks(data: bytes) -> list[archive.Block]:
    parser = archive.Parser()
    parser.feed(data)
    return list(iter(parser.next_block, None))


def test_compressor_is_used_up_by_flush():
    compressor = Compressor(model=MODEL)
    compressor.flush()
    for call in (compressor.flush, lambda: compressor.compress(b"x")):
        with pytest.raises(UsageError, match="use a new one"):
            call()


@settings(max_examples=40, deadline=None)
@given(
    n_bytes=st.integers(0, 5000),
    step=st.integers(1, 4000),
    max_length=st.integers(0, 3000),
    workers=st.integers(1, 3),
)
def test_decompressor_keeps_to_max_length(n_bytes, step, max_length, workers):
    with pytest.MonkeyPatch.context() as patch:
        cut_small(patch)
        data = mixed(n_bytes)
        packed = fast(data) + b"the rest"
    decompressor = Decompressor(model=MODEL, workers=workers)
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
    decompressor = Decompressor(model=MODEL)
    assert decompressor.needs_input
    assert decompressor.decompress(packed + packed) == data
    assert decompressor.eof
    assert decompressor.unused_data == packed
    join_all()


def test_decompressor_holds_no_bomb():
    """80 blocks that fit into one read: only what is asked for is unfolded."""
    with pytest.MonkeyPatch.context() as patch:
        cut_small(patch, 1 << 16)
        packed = fast(bytes(80 << 16))
    assert len(packed) < archive.READ_BYTES
    decompressor = Decompressor(model=MODEL, workers=2)
    assert len(decompressor.decompress(packed, 10)) == 10
    assert len(decompressor._ready) <= 1 << 16
    assert len(decompressor._decoder._pool) <= 4
    decompressor.close()


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("damage", ["payload", "head", "end"])
def test_what_is_sound_comes_before_the_damage(threads, damage):
    data = noise(9000)
    packed = bytearray(fast(data))
    at = frames.START_BYTES + 4 * (1000 + 7)  # the fifth block
    if damage == "end":
        del packed[at + 10 :]
    else:
        packed[at + (50 if damage == "payload" else 0)] ^= 128
    reading = stream.contents(io.BytesIO(packed), None, threads)
    assert b"".join(itertools.islice(reading, 4)) == data[:4000]
    if damage == "end":
        assert next(reading) == data[4000:4007], "what is there of the fifth block"
    with pytest.raises(TruncatedArchive if damage == "end" else CorruptArchive):
        next(reading)
    join_all()


def until_the_error(packed: bytes, model: Model) -> bytes:
    """What a reader gets before the archive turns out to be cut."""
    out = io.BytesIO()
    with pytest.raises(TruncatedArchive):
        unpack(io.BytesIO(packed), out, model=model)
    return out.getvalue()


LINES = b"".join(b"It was the %dth of them, and there was no other.\n" % number for number in range(60))


@pytest.mark.parametrize("how", ["fast", "default", "best", "lzma", "noise"])
def test_a_cut_archive_gives_what_can_be_decoded(monkeypatch, how, tiny_model):
    """In the core itself, in a compact archive: more, the later it is cut, and never a wrong byte."""
    monkeypatch.undo()
    data = {"lzma": b"the same again, " * 2000, "noise": noise(3000)}.get(how, LINES)
    packed = compress(data, how if how in presets.PRESETS else "fast", model=tiny_model)
    found = [until_the_error(packed[: len(packed) * part // 12], tiny_model) for part in range(1, 12)]
    assert all(data.startswith(content) for content in found)
    assert [len(content) for content in found] == sorted(len(content) for content in found)
    assert len(found[-1]) > len(data) / 2
    assert until_the_error(packed[:-1], tiny_model) == data, "only the checksum is missing"


@pytest.mark.parametrize("n_bytes", [0, 1, 30])
def test_every_cut_of_the_core_in_python(monkeypatch, n_bytes):
    monkeypatch.setattr("chunker.core.backend.backend", PythonBackend)
    packed = fast(LINES[:n_bytes])
    found = [until_the_error(packed[:size], MODEL) for size in range(4, len(packed))]
    assert all(LINES.startswith(content) for content in found)
    assert len(found[-1]) == n_bytes


def test_decompressor_does_not_go_on_after_an_error():
    packed = bytearray(fast(noise(100_000)))
    packed[1000] ^= 1
    decompressor = Decompressor(model=MODEL)
    with pytest.raises(CorruptArchive):
        decompressor.decompress(packed)
    with pytest.raises(UsageError, match="use a new one"):
        decompressor.decompress(b"")


def test_cut_off_is_for_the_caller_to_see():
    packed = fast(skewed(1000))
    decompressor = Decompressor(model=MODEL)
    assert decompressor.decompress(packed[:-1]) == b""
    assert not decompressor.eof
    assert decompressor.needs_input
    assert decompressor.decompress(packed[-1:]) == skewed(1000)
    assert decompressor.eof


@pytest.mark.parametrize("threads", [1, 2])
def test_concatenated_archives(threads):
    order = ["empty", "record", "noise", "one byte", "empty", "just large", "zeros", "record"]
    packed = b"".join(fast(INPUTS[name]) for name in order)
    assert decompress(packed, workers=threads) == b"".join(INPUTS[name] for name in order)


def test_many_small_archives_in_a_row():
    records = [b"record %d" % number for number in range(3000)]
    packed = b"".join(fast(record, workers=1) for record in records)
    assert decompress(packed) == b"".join(records)


def test_models_may_differ_from_archive_to_archive(monkeypatch):
    other = fake_model(bytes(range(100, 132)))
    known = {"first": MODEL, "second": other}
    monkeypatch.setattr(finder, "builtin", known.__getitem__)
    monkeypatch.setattr("chunker.models.builtin_models", lambda: list(known))
    monkeypatch.setattr("chunker.models.builtin_fingerprint", lambda name: known[name].fingerprint)
    data = skewed(500)
    packed = compress(data, model=MODEL) + compress(data, model=other) + alone(data)
    assert decompress(packed) == 3 * data
    assert decompress(packed, model=other) == 3 * data


@pytest.mark.parametrize("n_bytes", [500, 100_000])
def test_wrong_model(n_bytes):
    packed = compress(skewed(n_bytes), model=MODEL)
    for model in (None, fake_model(bytes(32))):
        with pytest.raises(WrongModel, match=r"01020304.*-m MODEL") as caught:
            decompress(packed, model=model)
        assert "\n" not in str(caught.value)


def test_stored_blocks_need_no_model():
    data = noise(100_000)
    assert decompress(compress(data, model=MODEL)) == data


def interrupt(call: int, stop: Stop) -> None:
    """Send the main thread an interrupt in the middle of the third block."""
    if call == 3:
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
        until_stopped(stop)


@pytest.mark.skipif(sys.platform == "win32", reason="no pthread_kill")
@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("way", ["compress", "decompress", "decompress in pieces"])
def test_an_interrupt_stops_everything(monkeypatch, way, threads):
    data = skewed(40_000)
    packed = fast(data)
    core = use(monkeypatch, StandIn(interrupt))
    ways = {
        "compress": lambda: fast(data, workers=threads),
        "decompress": lambda: decompress(packed, workers=threads),
        "decompress in pieces": lambda: Decompressor(workers=threads).decompress(packed),
    }
    with pytest.raises(KeyboardInterrupt):
        ways[way]()
    join_all()
    assert core.calls <= 3 + 2 * threads, "blocks were begun after the interrupt"


@pytest.mark.skipif(sys.platform == "win32", reason="no pthread_kill")
def test_an_interrupt_stops_a_compact_archive(monkeypatch):
    def at_once(call: int, stop: Stop) -> None:
        interrupt(3, stop)

    packed = fast(b"small " * 9)
    use(monkeypatch, StandIn(at_once))
    for call in (lambda: fast(b"small " * 9, workers=1), lambda: decompress(packed, workers=1)):
        with pytest.raises(KeyboardInterrupt):
            call()
        join_all()


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("error", [MemoryError, RuntimeError])
def test_a_failing_core_stops_everything(monkeypatch, threads, error):
    def fail(call: int, stop: Stop) -> None:
        raise error

    use(monkeypatch, StandIn(fail))
    compressor = Compressor(preset="fast", workers=threads)
    with pytest.raises(error):
        compressor.compress(skewed(300_000)) + compressor.flush()
    with pytest.raises(UsageError, match="interrupted"):
        compressor.flush()
    join_all()


@pytest.mark.usefixtures("small_blocks")
def test_giving_up_in_the_middle():
    packed = fast(skewed(20_000))
    decompressor = Decompressor(workers=2)
    decompressor.decompress(packed[: len(packed) * 3 // 4], 1)
    decompressor.close()
    join_all()
    reading = stream.contents(io.BytesIO(packed), workers=2)
    assert next(reading) == skewed(20_000)[:1000]
    reading.close()
    join_all()
