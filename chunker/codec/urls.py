"""Files of other places than this machine, named by a URL as fsspec reads it: s3://, gs://, memory://, ...

A name without a scheme is that of a local file, and nothing here has to do with it.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import re
from collections.abc import Iterator
from typing import Any, BinaryIO, cast

from chunker import extras
from chunker.errors import ChunkerError, MissingExtra, UsageError

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]+://")  # two letters at least: one is a drive of Windows


def is_url(name: object) -> bool:
    """Whether a name is that of a file elsewhere; `./s3://x` is not."""
    return isinstance(name, str) and _URL.match(name) is not None


def open_url(url: str, mode: str) -> BinaryIO:
    """A binary file as fsspec opens it. mode: rb, wb, ...

    Raises
    ------
    MissingExtra, UsageError: what is needed for it is not there. OSError: it cannot be opened; its methods
    raise it, too, whatever the file system itself would raise.
    """
    system, path = _located(url)
    return cast(BinaryIO, _opened(system, path, mode, url))


@contextlib.contextmanager
def open_whole(url: str, *, replace: bool) -> Iterator[BinaryIO]:
    """A file for writing that appears when the block ends without error, or not at all: as fsspec's
    transactions do it.

    Raises
    ------
    FileExistsError: it is there already, and `replace` is False. What `open_url` raises.
    """
    system, path = _located(url)
    with _told_of(url):
        if not replace and system.exists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), url)
    with _Told(system.transaction, url), _opened(system, path, "wb", url) as file:
        yield cast(BinaryIO, file)


def size_of(file: Any) -> int | None:
    """Bytes of a file that was opened, if its file system tells."""
    size = getattr(file, "size", None)
    return size if isinstance(size, int) else None


class _Told:
    """A file, or a transaction, of a file system elsewhere, that raises OSError whatever goes wrong."""

    def __init__(self, inner: Any, url: str) -> None:
        self._inner, self._url = inner, url

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._inner, name)
        if not callable(value):
            return value

        def told(*arguments: Any, **named: Any) -> Any:
            with _told_of(self._url):
                return value(*arguments, **named)

        return told

    def __enter__(self) -> _Told:  # noqa: PYI034 - Self needs Python 3.11
        with _told_of(self._url):
            self._inner.__enter__()
        return self

    def __exit__(self, *raised: object) -> None:
        with _told_of(self._url):
            self._inner.__exit__(*raised)


def _opened(system: Any, path: str, mode: str, url: str) -> _Told:
    with _told_of(url):
        return _Told(system.open(path, mode), url)


@contextlib.contextmanager
def _told_of(url: str) -> Iterator[None]:
    """Make what a file system raises an OSError that names the URL: each has exceptions of its own."""
    try:
        yield
    except (ChunkerError, MemoryError, io.UnsupportedOperation):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.strerror is not None:
            raise
        told = " ".join(str(error).split()) or type(error).__name__
        if isinstance(error, FileNotFoundError) and url.endswith(told):  # it says what was not found, no more
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), url) from error
        raise OSError(f"{url}: {told}") from error


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
