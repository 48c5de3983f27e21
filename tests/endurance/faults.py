"""Commands that are killed, and disks that are full, at any moment.

    python tests/endurance/faults.py kill COUNT [SEED]   kill -9 at COUNT random moments, over all jobs
    python tests/endurance/faults.py calls [MOST]        every call that creates, writes or links fails once
    python tests/endurance/faults.py disk [STEP]         a disk with room for 0, STEP, 2 STEP .. bytes (root)

Names of jobs behind the numbers, such as `train fit`: these alone.

After each fault no final name holds anything but a whole result, and the source is there or, with --rm, its
result is. A training that was killed goes on with --resume, again and again, and ends with the very same
weights. The jobs run in children of this process, so that imports take no part of the time. `calls` compiles
tests/native/failing.c.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import functools
import importlib
import importlib.util
import mmap
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NoReturn

Files = dict[str, bytes]  # name -> content

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

TRAINING = ["--levels", "8,6", "--batch", "4", "--window", "16", "--piece", "100", "--precision", "float32"]
TRAINING += ["--validations", "4", "--patience", "0", "--threads", "1", "--device", "cpu", "-q"]
TRAINING += ["--bytes", str(60 * 64), "--checkpoint-minutes", "0.0002", "--log-seconds", "0"]
FITTING = ["--levels", "12,8", "--steps", "6", "--head-steps", "6"]
BALLAST = "what fills the disk"
COUNTER = mmap.mmap(-1, 8)  # of calls, which children share; written to for as long as the process lives
MODULES = ("compress", "decompress", "records", "record_training", "train", "classify")
USUAL: tuple[str, ...] = (
    "chunker.codec.stream",
    "chunker.records.codec",
    "chunker.records.container",
    "chunker.learning.run",
    "chunker.learning.starting",
)
USUAL += ("chunker.classification.storage", "safetensors.torch", "rich.progress", "chunker.codec.lempelziv")


@dataclass(frozen=True)
class Job:
    """A command, and what it needs and makes.

    source: what it reads and must not lose. target: what it makes. removes: whether the source goes then.
    resumes: whether it goes on where it was killed. scratch: what else may lie there after a kill.
    """

    name: str
    arguments: list[str]
    source: str
    target: str
    removes: bool = False
    resumes: bool = False
    scratch: tuple[str, ...] = ()
    needs: tuple[str, ...] = ()

    @property
    def possible(self) -> bool:
        """Whether the extras that it needs are installed."""
        return all(importlib.util.find_spec(name) is not None for name in self.needs)


PARTS = (".checkpoint", ".checkpoint.lock", ".jsonl", ".part")
JOBS = [
    Job("compress", ["compress", "text", "-q"], "text", "text.nhc"),
    Job("compress --rm", ["compress", "text", "--rm", "-q"], "text", "text.nhc", removes=True),
    Job("compress -f", ["compress", "text", "-f", "-q", "-o", "old.nhc"], "text", "old.nhc"),
    Job("decompress", ["decompress", "made.nhc", "-q"], "made.nhc", "made"),
    Job("decompress --rm", ["decompress", "made.nhc", "--rm", "-q"], "made.nhc", "made", removes=True),
    Job("pack", ["records", "pack", "log", "-m", "log.safetensors", "-q"], "log", "log.nhr"),
    Job("unpack", ["records", "unpack", "made.nhr", "-m", "log.safetensors"], "made.nhr", "made"),
    Job(
        "train",
        ["train", "corpus", "-o", "m.safetensors", *TRAINING],
        "corpus",
        "m.safetensors",
        resumes=True,
        scratch=PARTS,
        needs=("torch",),
    ),
    Job(
        "fit",
        ["classify", "fit", "labelled.tsv", "-o", "c", *FITTING],
        "labelled.tsv",
        "c",
        scratch=(".part",),
        needs=("torch", "sklearn"),
    ),
]


def contents(seed: int = 1) -> Files:
    """The files that the jobs read."""
    draw = random.Random(seed)
    words = [bytes(draw.choices(range(97, 123), k=draw.randint(2, 9))) for _ in range(400)]
    text = b" ".join(draw.choices(words, k=2000))
    log = b"".join(b"t=%d level=%d %s\n" % (n, n % 3, draw.choice(words)) for n in range(500))
    rows = []
    for _ in range(60):
        label = draw.choice(["left", "right"])
        parts = ["ka", "to", "mi"] if label == "left" else ["ta", "ko", "nu"]
        rows.append(f"{label}\t{''.join(draw.choices(parts, k=draw.randint(3, 6)))}\n".encode())
    corpus = b" ".join(draw.choices(words, k=2000))
    return {
        "text": text,
        "log": log,
        "labelled.tsv": b"".join(rows),
        "corpus/a.txt": corpus,
        "corpus/b.txt": corpus[::-1],
        "old.nhc": b"what was there before",
    }


def write(folder: Path, files: Files) -> None:
    """Write them, with their folders."""
    for name, content in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)


def read(path: Path) -> Files | None:
    """A file, or all files of a folder; None: there is none."""
    if path.is_dir():
        return {each.name: each.read_bytes() for each in sorted(path.iterdir())}
    return {path.name: path.read_bytes()} if path.exists() else None


# ---- children --------------------------------------------------------------------------------------


def preload(jobs: list[Job]) -> None:
    """Import what the jobs need, so that children find it."""
    for name in (*(f"chunker.cli.{each}" for each in MODULES), *USUAL):
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    if any("torch" in job.needs for job in jobs):
        import torch

        torch.set_num_threads(1)


class Child:
    """A process that runs a command in a folder. prepare: called in it before the command begins."""

    def __init__(
        self, arguments: list[str], folder: Path, prepare: Callable[[], object] | None = None
    ) -> None:
        self._errors, errors = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(arguments, folder, prepare, errors)
        os.close(errors)

    def _run(
        self, arguments: list[str], folder: Path, prepare: Callable[[], object] | None, errors: int
    ) -> NoReturn:
        try:
            os.chdir(folder)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            os.dup2(errors, 2)
            sys.stdout, sys.stderr = os.fdopen(1, "w", closefd=False), os.fdopen(2, "w", closefd=False)
            sys.argv = ["chunker", *arguments]
            if prepare is not None:
                prepare()
            importlib.import_module("chunker.cli.main").main()
        except SystemExit as end:
            os._exit(end.code if isinstance(end.code, int) else 0)
        except BaseException as error:  # noqa: BLE001 - the parent goes on
            os.write(2, f"Traceback of the child: {error!r}\n".encode())
        os._exit(99)

    def wait(self) -> tuple[int, str]:
        """Its exit code, negative after a signal, and its lines on standard error."""
        parts = []
        while part := os.read(self._errors, 1 << 16):
            parts.append(part)
        os.close(self._errors)
        code = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return code, b"".join(parts).decode()


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder for one run, gone afterwards."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place) / "at"
        folder.mkdir()
        yield folder


class Wrong(Exception):
    """A promise was not kept."""


class Jobs:
    """The jobs with their files, and what each makes if it is left alone. names: of the jobs; none: all."""

    def __init__(self, names: list[str]) -> None:
        os.environ["CHUNKER_CACHE"] = ""
        self.jobs = [job for job in JOBS if job.possible and (not names or job.name in names)]
        preload(self.jobs)
        self.files = contents()
        self.expected: dict[str, Files] = {}
        self.seconds: dict[str, float] = {}
        with scratch() as folder:
            write(folder, self.files)
            for line in (
                ["train", "--records", "lines", "log", "-o", "log.safetensors"],
                ["records", "pack", "log", "-m", "log.safetensors", "-o", "made.nhr"],
                ["compress", "text", "-o", "made.nhc"],
            ):
                self._succeed(line, folder)
            for name in ("log.safetensors", "made.nhr", "made.nhc"):
                self.files[name] = (folder / name).read_bytes()
        for job in self.jobs:
            with scratch() as folder:
                write(folder, self.files)
                begun = time.perf_counter()
                self._succeed(job.arguments, folder)
                self.seconds[job.name] = time.perf_counter() - begun
                self.expected[job.name] = self._result(job, folder) or {}

    def _succeed(self, arguments: list[str], folder: Path) -> None:
        code, text = Child(arguments, folder).wait()
        if code:
            raise Wrong(f"{' '.join(arguments)}: {text}")

    def _result(self, job: Job, folder: Path) -> Files | None:
        """What the job made; of a training what decides, for its summary tells the time."""
        found = read(folder / job.target)
        if found is not None and job.resumes:
            from chunker.models import load_model

            return {job.target: load_model(folder / job.target).fingerprint}
        return found

    def check(self, job: Job, folder: Path, code: int, text: str) -> None:
        """Raise Wrong unless all promises are kept after a run that ended so."""
        before = {job.target: self.files[job.target]} if job.target in self.files else None
        made = read(folder / job.target)
        complete = made is not None and self._result(job, folder) == self.expected[job.name]
        if not complete and made != before:
            raise Wrong(f"{job.name}: {job.target} is neither complete nor as before")
        if code == 0 and not complete:
            raise Wrong(f"{job.name}: it said that it was done, and the result is not there")
        source = {Path(name).name: c for name, c in self.files.items() if name.split("/")[0] == job.source}
        there = read(folder / job.source)
        if there != source and not (there is None and job.removes and complete):
            raise Wrong(f"{job.name}: {job.source} is lost or changed")
        left = set(os.listdir(folder)) - {name.split("/")[0] for name in self.files} - {job.target, BALLAST}
        odd = {name for name in left if not (job.scratch and name.endswith(job.scratch))}
        if odd:
            raise Wrong(f"{job.name}: it left {', '.join(sorted(odd))}")
        if "Traceback" in text:
            raise Wrong(f"{job.name}: {text}")


# ---- series ----------------------------------------------------------------------------------------


def kill(jobs: Jobs, count: int, seed: int = 1) -> dict[str, int]:
    """Kill each job in turn at a random moment, `count` times in all. How often it came before the end."""
    draw = random.Random(seed)
    early = dict.fromkeys((job.name for job in jobs.jobs), 0)
    for number in range(count):
        job = jobs.jobs[number % len(jobs.jobs)]
        with scratch() as folder:
            write(folder, jobs.files)
            early[job.name] += _killed(jobs, job, folder, draw)
            while job.resumes and not (folder / job.target).exists():
                saved = (folder / f"{job.target}.checkpoint").exists()
                again = replace(job, arguments=[*job.arguments, *["--resume"] * saved])
                early[job.name] += _killed(jobs, again, folder, draw)
    for name, times in early.items():
        print(f"{name}: {times} times killed before its end")
    return early


def _killed(jobs: Jobs, job: Job, folder: Path, draw: random.Random) -> bool:
    """Whether a run, killed at a moment of its usual duration or a little later, had not ended by then."""
    child = Child(job.arguments, folder)
    time.sleep(draw.uniform(0, 1.1 * jobs.seconds[job.name]))
    os.kill(child.pid, signal.SIGKILL)  # if it has ended, nothing comes of it
    code, text = child.wait()
    jobs.check(job, folder, code, text)
    if code not in (0, -signal.SIGKILL):
        raise Wrong(f"{job.name}: exit code {code}: {text}")
    return code != 0


def calls(jobs: Jobs, most: int = 1 << 30) -> dict[str, int]:
    """Let each call fail that writes, the first `most` of each job. How many failed."""
    failing = ctypes.CDLL(os.environ["LD_PRELOAD"])
    failing.failing_counter(ctypes.byref(ctypes.c_long.from_buffer(COUNTER)))
    found = dict[str, int]()
    for job in jobs.jobs:
        for number in range(1, most + 1):
            with scratch() as folder:
                write(folder, jobs.files)
                code, text = Child(
                    job.arguments, folder, functools.partial(failing.failing_at, number, errno.ENOSPC)
                ).wait()
                if int.from_bytes(COUNTER, sys.byteorder) < number:
                    break
                found[job.name] = number
                jobs.check(job, folder, code, text)
                _told(job, code, text)
        print(f"{job.name}: {found.get(job.name, 0)} calls failed", flush=True)
    return found


def disk(jobs: Jobs, step_bytes: int = 1 << 12) -> dict[str, int]:
    """Run each job on a disk with room for nothing but its files, and for so many bytes more, and more, until
    it succeeds. How often it did not."""
    found = dict[str, int]()
    for job in jobs.jobs:
        room, code = 0, 1
        while code:
            with scratch() as folder, _disk(folder, jobs.files, room) as small:
                code, text = Child(job.arguments, small).wait()
                jobs.check(job, small, code, text)
                _told(job, code, text)
            room += step_bytes
            found[job.name] = found.get(job.name, 0) + (code != 0)
        print(f"{job.name}: {found[job.name]} disks were too small", flush=True)
    return found


@contextlib.contextmanager
def _disk(folder: Path, files: Files, room: int) -> Iterator[Path]:
    """A folder on a tmpfs of its own that has so many bytes left beside the files."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", folder], check=True)
    try:
        write(folder, files)
        status = os.statvfs(folder)
        ballast = (status.f_bavail * status.f_frsize - room) // status.f_frsize * status.f_frsize
        with open(folder / BALLAST, "wb") as file:
            os.posix_fallocate(file.fileno(), 0, ballast)
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


def _told(job: Job, code: int, text: str) -> None:
    """Raise Wrong unless a failure is one line that names the full disk."""
    lines = [line for line in text.splitlines() if line.startswith("chunker: ")]
    if code not in (0, 1) or (code and "No space left on device" not in lines[-1:][0]):
        raise Wrong(f"{job.name}: exit code {code}: {text}")


SERIES: dict[str, Callable[..., dict[str, int]]] = {"kill": kill, "calls": calls, "disk": disk}


def main() -> None:
    """The command line."""
    way, *rest = sys.argv[1:]
    numbers = [int(each) for each in rest if each.isdigit()]
    if way == "calls" and "LD_PRELOAD" not in os.environ:
        with tempfile.TemporaryDirectory() as folder:
            library = os.path.join(folder, "failing.so")
            source = str(ROOT / "tests" / "native" / "failing.c")
            subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
            environment = {**os.environ, "LD_PRELOAD": library}
            done = subprocess.run([sys.executable, *sys.argv], env=environment, check=False)
        raise SystemExit(done.returncode)
    begun = time.perf_counter()
    found = SERIES[way](Jobs([each for each in rest if not each.isdigit()]), *numbers)
    print(f"{way}: {sum(found.values())} faults, no promise broken, {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
