"""A file that is written whole or not at all: models, classifiers, checkpoints."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

from chunker.errors import UsageError


def write_whole(path: str | os.PathLike[str], content: bytes | bytearray) -> None:
    """Write a file, in place of an old one, which stays until the new one is complete.

    Raises
    ------
    OSError: the folder cannot be written to. UsageError: the path is that of a device, say,
    or of a directory.
    """
    target = Path(path)
    if target.exists() and not target.is_file():  # a device would be replaced
        raise UsageError(f"{path} is no regular file; choose another name")
    temporary = target.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with temporary.open("xb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, target)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with contextlib.suppress(OSError):  # it has its final name by now, or never came to be
            temporary.unlink()
