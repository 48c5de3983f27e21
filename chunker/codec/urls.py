"""Files of other places than this machine, named by a URL as fsspec reads it: s3://, gs://, memory://, ...

A name without a scheme is that of a local file, and nothing here has to do with it.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any, BinaryIO

from chunker import extras
from chunker.errors import MissingExtra, UsageError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: one is a drive of Windows


def is_url(name: object) -> bool:
    """Whether a name is that of a file elsewhere; `./s3://x` is not."""
    return isinstance(name, str) and _URL.match(name) is not None


def open_url(url: str, mode: str) -> BinaryIO:
    """A binary file as fsspec opens it. mode: rb, wb, ...

    Raises
    ------
    MissingExtra, UsageError: what is needed for it is not there. OSError, or whatever else its file system
    raises.
    """
    system, path = _located(url)
    file: BinaryIO = system.open(path, mode)
    return file


@contextlib.contextmanager
def open_whole(url: str, *, replace: bool) -> Iterator[BinaryIO]:
    """A file for writing that appears when the block ends without error, or not at all: as fsspec's
    transactions do it.

    Raises
    ------
    FileExistsError: it is there already, and `replace` is False. What `open_url` raises.
    """
    system, path = _located(url)
    if not replace and system.exists(path):
        raise FileExistsError(url)
    with system.transaction, system.open(path, "wb") as file:
        yield file


def size_of(file: Any) -> int | None:
    """Bytes of a file that was opened, if its file system tells."""
    size = getattr(file, "size", None)
    return size if isinstance(size, int) else None


def _located(url: str) -> tuple[Any, str]:
    """The file system, and the path in it."""
    extras.require("url", url)
    from fsspec.core import url_to_fs

    scheme = url.partition("://")[0]
    try:
        # An instance of its own: a transaction is of all that an instance has open.
        system, path = url_to_fs(url, skip_instance_cache=True)
    except ImportError as error:  # "Install s3fs to access S3"
        raise MissingExtra(
            f"{scheme}:// needs a package of its own ({error}): install it with pip"
        ) from error
    except ValueError as error:
        raise UsageError(f"{url}: {error}; choose a scheme that fsspec knows") from error
    return system, str(path)
