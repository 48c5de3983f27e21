"""Blocks in processes of their own, out of reach of the interpreter's lock, for which threads of numpy contend.

    a pool's thread --job--> process: encode_net or decode_net --answer--> that thread

Only in a program that allows it, as the commands do: a library starts no processes behind its user's back. One
block at a time is coded where it is asked for; others go to processes, which begin when they are first needed,
stay for the next block and end with this one. They run the same code on the same model, so the bits are the
same; whatever goes wrong with a process, the block is coded here after all.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

from chunker.coding.pool import Stop, Stopped

if TYPE_CHECKING:
    import queue

    from chunker.coding.blocks import Stack

LEAST_BYTES = 1 << 17  # of content; less is not worth waiting for a process to begin
MOST = 4  # processes at a time, for the sake of memory; each takes some 60 MB
LOOK_SECONDS = 0.05  # between two looks at whether to go on
_SIZES = 4, 8  # bytes of the lengths that head a message


@dataclass(frozen=True)
class Job:
    """One block under a net that does not learn.

    action: "encode" or "decode". path, fingerprint: of the model. lanes: of the block. n_bytes: of its content.
    limit_bytes: see `encode_net`. data: content or payload.
    """

    action: str
    path: str
    fingerprint: bytes
    lanes: int
    n_bytes: int
    limit_bytes: int
    data: bytes

    def header(self) -> dict[str, Any]:
        """All but the data, and which program asks, for a message."""
        from chunker import __version__

        fields = {**vars(self), "fingerprint": self.fingerprint.hex(), "version": __version__}
        del fields["data"]
        return fields


class _Switch:
    """Whether processes may be used, those that wait for work, and the CPU time that they took in all."""

    def __init__(self) -> None:
        self.allowed = False
        self.lock = threading.Lock()
        self.here = threading.Lock()  # held by the one thread that codes a block itself
        self.places = threading.BoundedSemaphore(MOST)
        self.idle: list[_Process] = []
        self.cpu_seconds = 0.0

    def end_idle(self) -> None:
        """End the processes that wait for work."""
        with self.lock:
            while self.idle:
                self.idle.pop().end()


_switch = _Switch()


def allow() -> None:
    """From now on blocks may be coded in processes, where the system has what that takes."""
    if not _switch.allowed and os.name == "posix" and sys.executable:
        _switch.allowed = True
        atexit.register(_switch.end_idle)


def cpu_seconds() -> float:
    """CPU time that blocks have taken in other processes so far."""
    return _switch.cpu_seconds


def coded(job: Job | None, here: Callable[[], bytes | None], stop: Stop) -> bytes | None:
    """What `here()` returns or raises, found by a process if that is allowed and a block is at work here already.

    job: the same work, None if only `here` can do it. Raises Stopped.
    """
    if job is None or not _switch.allowed or job.n_bytes < LEAST_BYTES:
        return here()
    if _switch.here.acquire(blocking=False):
        try:
            return here()
        finally:
            _switch.here.release()
    if not _switch.places.acquire(blocking=False):
        return here()
    try:
        answer = _elsewhere(job, stop)
    finally:
        _switch.places.release()
    return here() if answer is None else answer.payload


@dataclass(frozen=True)
class _Answer:
    payload: bytes | None


def _elsewhere(job: Job, stop: Stop) -> _Answer | None:
    """None if no process could do it."""
    with _switch.lock:
        process = _switch.idle.pop() if _switch.idle else None
    answer = None
    try:
        process = process or _Process()
        answer = process.ask(job, stop)
    except (OSError, ValueError):  # it cannot be started, has ended, or talks nonsense
        pass
    finally:
        if process is not None and answer is None:
            process.end()
    if process is None or answer is None:
        return None
    header, payload = answer
    with _switch.lock:
        _switch.idle.append(process)
        _switch.cpu_seconds += float(header["cpu_seconds"])
    if not header["done"]:
        return None
    return _Answer(payload if header["smaller"] else None)


class _Process:
    """A process that codes one block after the other."""

    def __init__(self) -> None:
        import subprocess

        # The same modules as here, wherever this was started; `-m` would look into the current folder first.
        code = f"import sys; sys.path[:] = {sys.path!r}; from chunker.coding.processes import serve; serve()"
        self._child = subprocess.Popen(
            [sys.executable, "-c", code],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # Ctrl-C is for this process alone; the other one ends with it
        )

    def ask(self, job: Job, stop: Stop) -> tuple[dict[str, Any], bytes] | None:
        """The answer; None if it has ended. Raises Stopped, OSError, ValueError."""
        import select

        child = self._child
        if child.stdin is None or child.stdout is None:
            raise ValueError("a process without pipes")
        _send(child.stdin, job.header(), job.data)
        poll = select.poll()
        poll.register(child.stdout, select.POLLIN | select.POLLHUP)
        while not poll.poll(1000 * LOOK_SECONDS):
            if stop():
                raise Stopped
        return _receive(child.stdout)

    def end(self) -> None:
        """Kill it."""
        self._child.kill()
        self._child.wait()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe is not None:
                with contextlib.suppress(OSError):
                    pipe.close()


def _send(stream: BinaryIO | Any, header: dict[str, Any], data: bytes) -> None:
    text = json.dumps(header).encode()
    for part, size in zip((text, data), _SIZES, strict=True):
        stream.write(len(part).to_bytes(size, "little"))
    stream.write(text)
    stream.write(data)
    stream.flush()


def _receive(stream: BinaryIO | Any) -> tuple[dict[str, Any], bytes] | None:
    """A message; None where the stream ends. Raises ValueError if that is within one."""
    sizes = stream.read(sum(_SIZES))
    if not sizes:
        return None
    lengths = [int.from_bytes(part, "little") for part in (sizes[: _SIZES[0]], sizes[_SIZES[0] :])]
    text, data = (stream.read(length) for length in lengths)
    if len(data) != lengths[1]:
        raise ValueError("a message is cut")
    header: dict[str, Any] = json.loads(text)
    return header, data


def serve() -> None:
    """What such a process does: answer jobs from standard input until that ends, at whatever moment."""
    import queue

    jobs: queue.SimpleQueue[tuple[dict[str, Any], bytes]] = queue.SimpleQueue()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # nobody else is to write between them
    threading.Thread(target=_listen, args=(jobs,), daemon=True).start()
    while True:
        header, data = jobs.get()
        begun, answer, payload = time.process_time(), {"done": False, "smaller": False}, None
        with contextlib.suppress(Exception):  # whoever asked does it again and meets the same error
            payload = _answer(header, data)
            answer = {"done": True, "smaller": payload is not None}
        with contextlib.suppress(OSError):
            _send(answers, {**answer, "cpu_seconds": time.process_time() - begun}, payload or b"")


def _listen(jobs: queue.SimpleQueue[tuple[dict[str, Any], bytes]]) -> None:
    with os.fdopen(0, "rb") as stream:
        try:
            while (message := _receive(stream)) is not None:
                jobs.put(message)
        finally:
            os._exit(0)


def _answer(header: dict[str, Any], data: bytes) -> bytes | None:
    from chunker import __version__
    from chunker.coding import blocks

    if header["version"] != __version__:
        raise ValueError("the program was replaced meanwhile")
    stack, lanes = _stack(header["path"], header["fingerprint"]), header["lanes"]
    if header["action"] == "encode":
        return blocks.encode_net(stack, data, lanes, header["limit_bytes"])
    return blocks.decode_net(stack, data, header["n_bytes"], lanes)


@functools.lru_cache(maxsize=2)
def _stack(path: str, fingerprint: str) -> Stack:
    from chunker.modelfile import load_model

    model = load_model(path)
    if model.fingerprint.hex() != fingerprint:
        raise ValueError("the model was replaced meanwhile")
    return model.integer_stack()
