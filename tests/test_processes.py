"""Blocks coded in other processes: the same bits, and a way out of everything that may happen to a process."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from make_golden import text

from chunker.coding import blocks, processes
from chunker.coding.frames import Kind
from chunker.coding.pool import Stopped, never
from chunker.coding.stream import compress, decompress
from chunker.errors import CorruptArchive

pytestmark = pytest.mark.skipif(os.name != "posix", reason="threads are used elsewhere")

CONTENT = text(6000)
FAST = blocks.PRESETS["fast"]
LANES = FAST.lanes(len(CONTENT))


@pytest.fixture
def switch(monkeypatch):
    """Processes are allowed, and as good as a block is at work here: all others go to processes."""
    switch = processes._Switch()
    monkeypatch.setattr(processes, "_switch", switch)
    monkeypatch.setattr(processes, "LEAST_BYTES", len(CONTENT))
    processes.allow()
    assert switch.allowed
    with switch.here:
        yield switch
    switch.end_idle()


@pytest.fixture
def no_lzma(monkeypatch):
    """Nothing is better than the net."""
    monkeypatch.setattr(blocks, "encode_lzma", lambda data, *_: data)


@pytest.fixture
def payload(tiny_model):
    found = blocks.encode_net(tiny_model.integer_stack(), CONTENT, LANES, len(CONTENT))
    assert found is not None
    return found


@pytest.fixture
def job(tiny_model):
    path = os.path.abspath(tiny_model.path)
    return processes.Job("encode", path, tiny_model.fingerprint, LANES, len(CONTENT), len(CONTENT), CONTENT)


def never_here():
    raise AssertionError("it was to be done by a process")


def test_the_same_bits(switch, job, payload):
    assert processes.coded(job, never_here, never) == payload
    back = replace(job, action="decode", data=payload)
    assert processes.coded(back, never_here, never) == CONTENT
    assert processes.coded(replace(job, limit_bytes=len(payload)), never_here, never) is None
    assert len(switch.idle) == 1, "one process did all of it"
    assert processes.cpu_seconds() > 0


def test_archives_do_not_depend_on_processes(switch, no_lzma, tiny_model, monkeypatch):
    monkeypatch.setitem(blocks.PRESETS, "fast", replace(FAST, block_bytes=len(CONTENT), whole_bytes=0))
    monkeypatch.setattr(blocks, "SMALL_BYTES", 0)
    content = CONTENT * 3 + CONTENT[:100]
    switch.allowed = False
    archive = compress(content, tiny_model, preset="fast")
    assert not switch.idle
    switch.allowed = True
    assert compress(content, tiny_model, preset="fast", threads=2) == archive
    assert switch.idle
    before = switch.cpu_seconds
    assert decompress(archive, model=tiny_model, threads=2) == content
    assert switch.cpu_seconds > before


def test_what_learns_and_what_is_short_stays_here(switch, no_lzma, tiny_model):
    assert blocks._job("encode", tiny_model, Kind.LEARNING, 1, len(CONTENT), 1, CONTENT) is None
    coded = blocks.encode_block(tiny_model, CONTENT[:2000], FAST)
    assert coded.kind is Kind.NET
    assert not switch.idle


def test_the_first_block_stays_here(switch, job):
    switch.here.release()
    try:
        assert processes.coded(job, lambda: b"here", never) == b"here"
    finally:
        switch.here.acquire()
    assert not switch.idle


def test_no_more_processes_than_agreed(switch, job):
    for _ in range(processes.MOST):
        switch.places.acquire()
    assert processes.coded(job, lambda: b"here", never) == b"here"


def test_a_stop_ends_the_process(switch, job, monkeypatch):
    seen: list[subprocess.Popen[bytes]] = []

    class Watched(processes._Process):
        def __init__(self) -> None:
            super().__init__()
            seen.append(self._child)

    monkeypatch.setattr(processes, "_Process", Watched)
    with pytest.raises(Stopped):
        processes.coded(job, never_here, lambda: True)
    assert [child.returncode for child in seen] == [-9]
    assert not switch.idle


def test_a_process_that_died_is_made_good_here(switch, job, payload):
    assert processes.coded(job, never_here, never) == payload
    switch.idle[0]._child.kill()
    switch.idle[0]._child.wait()
    assert processes.coded(job, lambda: b"here", never) == b"here"
    assert not switch.idle
    assert processes.coded(job, never_here, never) == payload, "the next one begins anew"


def test_a_process_that_cannot_begin_is_made_good_here(switch, job, monkeypatch):
    monkeypatch.setattr(sys, "executable", "/nowhere/python")
    assert processes.coded(job, lambda: b"here", never) == b"here"


@pytest.mark.parametrize("change", [{"path": "/nowhere/model"}, {"fingerprint": bytes(32)}])
def test_a_model_that_is_gone_or_replaced_is_made_good_here(switch, job, change):
    assert processes.coded(replace(job, **change), lambda: b"here", never) == b"here"
    assert len(switch.idle) == 1, "nothing is wrong with the process"


def test_another_version_is_made_good_here(switch, job, monkeypatch):
    monkeypatch.setattr("chunker.__version__", "0")
    assert processes.coded(job, lambda: b"here", never) == b"here"


def test_damage_is_told_as_it_is_here(switch, job, payload, tiny_model):
    bad = bytes([payload[0] ^ 255]) + bytes(len(payload) - 1)
    stack = tiny_model.integer_stack()

    def here() -> bytes:
        return blocks.decode_net(stack, bad, len(CONTENT), LANES)

    wanted: bytes | type[Exception]
    try:
        wanted = here()
    except CorruptArchive:
        wanted = CorruptArchive
    back = replace(job, action="decode", data=bad)
    if isinstance(wanted, bytes):
        assert processes.coded(back, never_here, never) == wanted
    else:
        with pytest.raises(CorruptArchive):
            processes.coded(back, here, never)


@pytest.mark.parametrize("at_work", [False, True])
def test_a_process_ends_with_its_parent(job, at_work):
    """Whatever ends the parent closes the pipe."""
    process = processes._Process()
    stdin = process._child.stdin
    assert stdin is not None
    if at_work:
        processes._send(stdin, replace(job, lanes=1).header(), job.data)
    stdin.close()
    assert process._child.wait(timeout=30) == 0
    process.end()
