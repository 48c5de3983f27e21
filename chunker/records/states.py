"""States of sessions that have read a large sample, kept in files: reading it again would take seconds.

A file is mapped, so processes share it, and each record changes a copy of the pages that it touches. It
serves the build of the core that wrote it, and may be deleted at any time.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import mmap
import os
import sys
from collections.abc import Callable
from pathlib import Path
from zlib import crc32

from chunker.core import backend as core
from chunker.core import native
from chunker.core.backend import Session
from chunker.errors import UsageError
from chunker.wholefile import write_whole

VARIABLE = "CHUNKER_CACHE"
SUFFIX = ".state"
LEAST_BYTES = 1 << 15  # of a sample: a smaller one is read in less than 0.3 s
MOST_FILES = 8  # of about 100 MB each; beyond, those go that were not used for the longest time
CRC_BYTES = 4


def folder() -> Path | None:
    """Where the files lie: what CHUNKER_CACHE names, or the user's folder for such files. None: nowhere."""
    named = os.environ.get(VARIABLE)
    if named is not None:
        return Path(named) if named else None
    base = os.environ.get("LOCALAPPDATA" if sys.platform == "win32" else "XDG_CACHE_HOME")
    try:
        return (Path(base) if base else Path.home() / ".cache") / "chunker"
    except RuntimeError:  # no home
        return None


@functools.cache
def _build() -> str:
    """The core, and a digest of the library that it is in: other builds lay their states out otherwise."""
    with contextlib.suppress(OSError):
        library = hashlib.blake2b(native.LIBRARY.read_bytes(), digest_size=8).hexdigest()
        return f"{core.backend().name.replace(' ', '-')}-{library}"
    return ""


def started(
    fingerprint: bytes, start: Callable[[], Session], restore: Callable[[mmap.mmap], Session | None]
) -> Session:
    """The session that `start` makes: restored from a file, or else kept in one for the next time.

    Where no file can be read or written, this costs time and nothing else.
    """
    place, build = folder(), _build()
    if place is None or not build:
        return start()
    path = place / f"{fingerprint.hex()}-{build}{SUFFIX}"
    with contextlib.suppress(OSError, ValueError):
        state = _map(path)
        session = None if state is None else restore(state)
        if session is not None:
            os.utime(path)
            return session
    session = start()
    with contextlib.suppress(OSError, MemoryError, UsageError):
        _write(path, session.save())
    return session


def _map(path: Path) -> mmap.mmap | None:
    """The state in a file; None if its checksum is not its own. Raises OSError, ValueError."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END) - CRC_BYTES
        file.seek(size)
        crc = int.from_bytes(file.read(CRC_BYTES), "little")
        state = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
    return state if crc32(state) == crc else None


def _write(path: Path, state: bytearray) -> None:
    """Raises OSError, UsageError."""
    if not state:
        return
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    state += crc32(state).to_bytes(CRC_BYTES, "little")
    write_whole(path, state)
    files = sorted(path.parent.glob(f"*{SUFFIX}"), key=lambda each: each.stat().st_mtime)
    for old in files[:-MOST_FILES]:
        old.unlink(missing_ok=True)
