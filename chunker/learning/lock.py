"""One training at a time for a checkpoint: a second one would replace what the first one saved."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from chunker.errors import CheckpointError

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

# Of a region that is locked no other process may read on Windows: this one lies behind the number.
_REGION_AT = 1 << 30


@contextlib.contextmanager
def only_training(checkpoint: str | os.PathLike[str] | None) -> Iterator[None]:
    """Hold a checkpoint against other processes and threads for as long as the context lasts; None: nothing.

    The operating system lets go of it when the process ends, however it ends. On a file system without locks
    the context holds nothing.

    Raises
    ------
    CheckpointError: another training holds it. OSError: the folder cannot be written to.
    """
    if checkpoint is None:
        yield
        return
    path = Path(checkpoint).with_name(f".{Path(checkpoint).name}.lock")
    descriptor = _locked(path, Path(checkpoint))
    try:
        yield
    finally:
        if sys.platform != "win32":  # which deletes no open file
            path.unlink(missing_ok=True)
        os.close(descriptor)
        with contextlib.suppress(OSError):  # the next one has it open
            if sys.platform == "win32":
                path.unlink()


def _locked(path: Path, checkpoint: Path) -> int:
    """The descriptor of the file, locked. Raises CheckpointError, OSError."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0), 0o666)
        try:
            _lock(descriptor)
        except (BlockingIOError, PermissionError):
            with os.fdopen(descriptor, "rb") as file:
                holder = file.read(20).decode("ascii", "replace")
            told = f" (process {holder})" if holder.isdecimal() else ""
            raise CheckpointError(
                f"{checkpoint}: another training{told} uses it; wait for its end, or choose another -o"
            ) from None
        except OSError:
            return descriptor  # no locks here
        if _is_at(descriptor, path):
            os.truncate(descriptor, 0)
            os.write(descriptor, str(os.getpid()).encode("ascii"))
            return descriptor
        os.close(descriptor)  # the one who had it before deleted it meanwhile


def _lock(descriptor: int) -> None:
    if sys.platform == "win32":
        os.lseek(descriptor, _REGION_AT, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        os.lseek(descriptor, 0, os.SEEK_SET)
    else:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
