"""Sources are checked before they are read; targets appear complete or not at all.

A target is written to a file without a name, where the system offers such files, and gets its name when
everything is written. However the process ends, the old file stays as it was, or there is none; never half of
one. Elsewhere the file is hidden beside the target and deleted on failure; only `kill -9` leaves it there.
"""

from __future__ import annotations

import contextlib
import hashlib
import mmap
import os
import secrets
import stat
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from chunker.codec.urls import is_url, open_url, open_whole, size_of
from chunker.errors import UsageError

STANDARD = "-"  # standard input as a source, standard output as a target
SUFFIX = ".nhc"
PACK_DIRECTORY = "pack it with `tar -I nhc -cf NAME.tar.nhc DIRECTORY`"

_temporaries: set[str] = set()


class Skipped(UsageError):
    """A file that is left as it is, which gzip only warns of: a directory, an existing target,
    another suffix."""


class Warned(UsageError):
    """The result is there, and something is to be said of it."""


class NotDeleted(Warned):
    """A source that stays although --rm was given; what was made of it is complete."""


@dataclass(frozen=True)
class Source:
    """An open input.

    size: bytes, None if it cannot be known before the end (a pipe).
    status: as it was before the first byte was read, None for standard input and a URL; a target takes its
    mode and times from it.
    """

    path: str
    stream: BinaryIO
    size: int | None
    status: os.stat_result | None


class CountedInput:
    """A binary input that can only be read, and knows how much of it was."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._ahead = b""
        self.count = 0

    def peek(self, size: int) -> bytes:
        """The next `size` bytes, fewer at the end; `read` gives them again."""
        while len(self._ahead) < size and (data := self._stream.read(size - len(self._ahead))):
            self._ahead += data
        return self._ahead

    def read(self, size: int = -1) -> bytes:
        """Up to `size` bytes, as the stream below gives them."""
        data, self._ahead = self._ahead or self._stream.read(size), b""
        self.count += len(data)
        return data


class Digesting:
    """A binary input, or an output that keeps nothing, which knows the digest of what passed through it."""

    def __init__(self, stream: BinaryIO | None = None) -> None:
        """stream: the input; None: it is an output."""
        self._stream = stream
        self._hash = hashlib.blake2b(digest_size=16)

    def read(self, size: int = -1) -> bytes:
        """As the stream."""
        data = b"" if self._stream is None else self._stream.read(size)
        self._hash.update(data)
        return data

    def write(self, data: bytes) -> int:
        """Take in data."""
        self._hash.update(data)
        return len(data)

    @property
    def digest(self) -> bytes:
        """16 bytes."""
        return self._hash.digest()


@contextlib.contextmanager
def open_source(
    path: str, *, named_target: bool = False, remove: bool = False, directory: str = "name the files in it"
) -> Iterator[Source]:
    """Open a file, what is at a URL, or standard input for "-", for reading.

    named_target: the user said where the output goes, so pipes and devices may be read.
    remove: the source shall be deleted afterwards, so it must be a regular file and no symbolic link.
    directory: what the user of one should do.

    Raises
    ------
    UsageError: a directory, a special file or a symbolic link where none can be used.
    OSError: the file cannot be opened.
    """
    if path == STANDARD:
        stream = sys.stdin.buffer
        yield Source(path, stream, _regular_size(stream), None)
        return
    if is_url(path):
        if remove:
            raise UsageError("--rm deletes files of this machine only; leave it out")
        with open_url(path, "rb") as stream:
            yield Source(path, stream, size_of(stream), None)
        return
    status = os.stat(path)
    if stat.S_ISDIR(status.st_mode):
        raise Skipped(f"is a directory; {directory}")
    if not stat.S_ISREG(status.st_mode) and (remove or not named_target):
        raise Skipped("is no regular file; name the output with -o or -c to read it nevertheless")
    if remove and os.path.islink(path):
        raise UsageError("is a symbolic link, which --rm would delete in place of the file; leave out --rm")
    with open(path, "rb") as stream:
        status = os.fstat(stream.fileno())
        yield Source(path, stream, _regular_size(stream), status)


def contents(source: Source) -> bytes | memoryview:
    """All of a source: mapped into memory where that can be done, else read."""
    try:
        return memoryview(mmap.mmap(source.stream.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError):  # a pipe; an empty file
        return source.stream.read()


def _regular_size(stream: BinaryIO) -> int | None:
    """Bytes from the current position to the end of a regular file; None for anything else."""
    try:
        status = os.fstat(stream.fileno())
        return max(status.st_size - stream.tell(), 0) if stat.S_ISREG(status.st_mode) else None
    except OSError:  # no descriptor, or a regular file that cannot tell
        return None


def target_for_compressing(path: str, suffix: str = SUFFIX) -> str:
    """FILE -> FILE.nhc; "-" -> "-".

    Raises
    ------
    Skipped: the file has that suffix already.
    """
    if path == STANDARD:
        return STANDARD
    if has_suffix(path, suffix):
        raise Skipped(f"has the suffix {suffix} already; name the output with -o to compress it again")
    return path + suffix


def target_for_decompressing(path: str, suffix: str = SUFFIX) -> str:
    """FILE.nhc -> FILE, also where another suffix was asked for; "-" -> "-".

    Raises
    ------
    Skipped: the file has another suffix.
    """
    if path == STANDARD:
        return STANDARD
    for known in (suffix, SUFFIX):
        if has_suffix(path, known):
            return path.removesuffix(known)
    raise Skipped(f"has not the suffix {suffix}; name the output with -o")


def has_suffix(path: str, suffix: str) -> bool:
    """Whether the name has that suffix, and more than it."""
    return path.endswith(suffix) and os.path.basename(path) != suffix


def archive_at(path: str, suffix: str = SUFFIX) -> str:
    """The archive that a path means: if there is none of that name, the one with the suffix."""
    added = path + suffix
    return added if path != STANDARD and not os.path.lexists(path) and os.path.lexists(added) else path


def files_below(path: str) -> Iterator[str]:
    """The path itself; of a directory all regular files in it and below, in the order of their names."""
    if path == STANDARD or not os.path.isdir(path):
        yield path
        return
    for folder, folders, names in os.walk(path):
        folders.sort()
        for each in (os.path.join(folder, name) for name in sorted(names)):
            if stat.S_ISREG(os.lstat(each).st_mode):
                yield each


@contextlib.contextmanager
def open_target(
    path: str, source: Source, *, force: bool = False, durable: bool = False, named: bool = True
) -> Iterator[BinaryIO]:
    """Open a file, what shall be at a URL, or standard output for "-", for writing; it appears when the block
    ends without error.

    What was written to a regular file can be read back from it before that.

    force: replace an existing file. durable: wait until it is on the disk, because the source goes away.
    named: the user said so; only then pipes and devices are written to.

    Raises
    ------
    UsageError: the target exists, is the source itself, or cannot be a target.
    OSError: it cannot be written; no part of it remains.
    """
    if path in (STANDARD, "/dev/stdout"):
        stream = sys.stdout.buffer
        _refuse_same_file(source, _status_of(stream))
        if durable:
            raise UsageError("--rm and standard output do not go together: the result may get lost")
        yield stream
        stream.flush()
        return
    if is_url(path):
        if path == source.path:
            raise UsageError("input and output are the same file; choose another name with -o")
        if durable:
            raise UsageError("--rm needs a result on this machine; leave it out")
        try:
            with open_whole(path, replace=force) as stream:
                yield stream
        except FileExistsError:
            raise _exists(path) from None
        return
    status = _existing(path, source, force)
    if status is not None and not stat.S_ISREG(status.st_mode):
        if durable:
            raise UsageError(f"{shown(path)} is no regular file: the result may get lost; leave out --rm")
        if not named:
            raise UsageError(f"{shown(path)} is no regular file; name it with -o to write to it")
        with open(path, "wb") as stream:  # a pipe or /dev/null cannot be replaced, only written to
            yield stream
        return
    with _replaced(path, source, force=force, durable=durable) as stream:
        yield stream


def _existing(path: str, source: Source, force: bool) -> os.stat_result | None:
    """The status of an existing target that may be used, None if there is none."""
    try:
        os.lstat(path)
    except (FileNotFoundError, NotADirectoryError):
        return None  # opening it will tell if the folder is missing
    try:
        status = os.stat(path)
    except FileNotFoundError:
        raise UsageError(f"{shown(path)} is a symbolic link to nothing; remove it first") from None
    _refuse_same_file(source, status)
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(f"{shown(path)} is a directory; name a file")
    if stat.S_ISREG(status.st_mode) and not force:
        raise _exists(path)
    if stat.S_ISBLK(status.st_mode) or stat.S_ISSOCK(status.st_mode):
        raise UsageError(f"{shown(path)} is a disk or a socket; name a file")
    return status


def _exists(path: str) -> Skipped:
    return Skipped(f"{shown(path)} exists; replace it with -f or choose another name with -o")


def _refuse_same_file(source: Source, target: os.stat_result | None) -> None:
    status = source.status or _status_of(source.stream)
    if status is None or target is None or not stat.S_ISREG(status.st_mode):
        return
    if os.path.samestat(status, target):
        raise UsageError("input and output are the same file; choose another name with -o")


def _status_of(stream: BinaryIO) -> os.stat_result | None:
    try:
        return os.fstat(stream.fileno())
    except OSError:  # a stream in memory
        return None


@contextlib.contextmanager
def _replaced(path: str, source: Source, *, force: bool, durable: bool) -> Iterator[BinaryIO]:
    directory = os.path.dirname(path)
    # Nobody else reads a private file's content while it is being written.
    mode = 0o666 if source.status is None else 0o600
    unnamed = _can_be_unnamed(directory)
    with _temporary_name(directory) as temporary:
        with _told_by(path):
            descriptor = _open_unnamed(directory, mode) if unnamed else os.open(temporary, _CREATE, mode)
        with open(descriptor, "w+b") as stream:
            yield stream
            stream.flush()
            if durable:
                os.fsync(descriptor)
            if unnamed:
                _carry_over(source.status, descriptor)
                with _told_by(path):
                    _name(descriptor, temporary if force else path)
        if not unnamed:
            _carry_over(source.status, temporary)
        if force or not unnamed:
            _publish(temporary, path, force)
        if durable:
            _sync_directory(directory)


@contextlib.contextmanager
def _told_by(path: str) -> Iterator[None]:
    """What fails is told by the target's name; the file that is to become it means nothing to the user."""
    try:
        yield
    except FileExistsError:
        raise _exists(path) from None
    except OSError as error:
        raise OSError(error.errno, error.strerror, path) from error


_CREATE = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)


@contextlib.contextmanager
def _temporary_name(directory: str) -> Iterator[str]:
    """A name for a hidden file, which is deleted in the end if it is still there."""
    # A short name of its own: the target's may already be as long as names can be.
    name = os.path.join(directory, f".{secrets.token_hex(8)}.nhc-part")
    _temporaries.add(name)
    try:
        yield name
    finally:
        with contextlib.suppress(OSError):  # it has its final name by now, or never came to be
            os.unlink(name)
        _temporaries.discard(name)


def _open_unnamed(directory: str, mode: int) -> int:
    """The descriptor of a new file without a name, which ends with the process. Raises OSError."""
    return os.open(directory or ".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, mode)


def _name(descriptor: int, path: str) -> None:
    """Give a file without a name its name (open(2), O_TMPFILE). Raises FileExistsError, OSError."""
    # The folder's descriptor is not looked at, but without one Python would not follow the link.
    os.link(f"/proc/self/fd/{descriptor}", path, src_dir_fd=descriptor, follow_symlinks=True)


def _can_be_unnamed(directory: str) -> bool:
    """Whether a file without a name can get one here: tried, for later it would be too late."""
    if not hasattr(os, "O_TMPFILE"):
        return False
    try:
        descriptor = _open_unnamed(directory, 0o600)
    except OSError:  # not on this file system, or not for this user: the hidden one will tell
        return False
    try:
        with _temporary_name(directory) as name:
            _name(descriptor, name)
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)


def _carry_over(status: os.stat_result | None, file: str | int) -> None:
    """Give a file, a path or a descriptor, the owner, mode and times of `status`, as far as this user may."""
    if status is None:
        return
    mode = stat.S_IMODE(status.st_mode) & 0o777
    if hasattr(os, "chown"):
        for owner, group in ((-1, status.st_gid), (status.st_uid, -1)):
            with contextlib.suppress(PermissionError):
                os.chown(file, owner, group)
        if os.stat(file).st_gid != status.st_gid:
            # Another group now: it may do no more than everybody could before.
            mode &= ~0o070 | ((mode & 0o007) << 3)
    with contextlib.suppress(PermissionError):  # a file system without modes
        os.chmod(file, mode)
    with contextlib.suppress(PermissionError):
        os.utime(file, ns=(status.st_atime_ns, status.st_mtime_ns))


def _publish(temporary: str, path: str, force: bool) -> None:
    """Give the complete file its name; without force, never in place of a file that came up meanwhile."""
    if force:
        with _told_by(path):
            os.replace(temporary, path)
        return
    try:
        os.link(temporary, path)  # unlike a rename, this fails if the name is taken
    except FileExistsError:
        raise _exists(path) from None
    except OSError:  # a file system without hard links
        if os.path.lexists(path):
            raise _exists(path) from None
        os.rename(temporary, path)


def _sync_directory(directory: str) -> None:
    with contextlib.suppress(OSError):  # not every system can
        descriptor = os.open(directory or ".", os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def remove_source(source: Source, target: str) -> None:
    """Delete a source that was used up, if it is still the file that was read: by its inode, size and time.

    A program that writes to it later than this looks is not noticed, as nobody can.

    Raises
    ------
    NotDeleted: it stays; what was read of it is in `target`.
    """
    if source.status is None:
        return
    try:
        now = os.lstat(source.path)
        if not os.path.samestat(now, source.status):
            reason, remedy = "it was replaced meanwhile", "delete it yourself"
        elif (now.st_size, now.st_mtime_ns) != (source.status.st_size, source.status.st_mtime_ns):
            reason, remedy = "it changed while it was read", "do it again with -f when nothing writes to it"
        else:
            os.unlink(source.path)
            return
    except OSError as error:
        reason, remedy = str(error.strerror), "delete it yourself"
    raise NotDeleted(f"is not deleted ({reason}); {shown(target)} has what was read of it; {remedy}")


def remove_temporaries() -> None:
    """Delete what unfinished targets left; for a process that ends without its `finally` clauses."""
    for path in list(_temporaries):
        with contextlib.suppress(OSError):
            os.unlink(path)


def is_standard_output(name: str | None) -> bool:
    """Whether data for this target goes where the command's own lines would go."""
    if name is None or name == STANDARD:
        return name == STANDARD
    try:
        return os.path.samestat(os.stat(name), os.fstat(1))
    except OSError:  # no such file yet, or standard output is closed
        return False


def refuse_terminal_output(target: BinaryIO, force: bool) -> None:
    """Keep compressed bytes off a terminal.

    Raises
    ------
    UsageError: the target is a terminal and nothing forces it.
    """
    if not force and target.isatty():
        raise UsageError("compressed data is not written to a terminal; redirect it, or name a file with -o")


def refuse_terminal_input(force: bool) -> None:
    """Do not wait for an archive that somebody would have to type.

    Raises
    ------
    UsageError: standard input is a terminal and nothing forces it.
    """
    if not force and sys.stdin.isatty():
        raise UsageError("compressed data is not read from a terminal; name a file, see --help")


def shown(path: str) -> str:
    """A file name as it can be printed: no control characters, no undecodable bytes;
    "''" for an empty one."""
    escaped = (c if c.isprintable() else c.encode("unicode_escape", "replace").decode() for c in path)
    return "".join(escaped) or "''"


def check_output(path: Path, force: bool) -> None:
    """Raise UsageError if a model may not be written there: something exists, or it is no regular file."""
    if path.exists() and not path.is_file():
        raise UsageError(f"{shown(str(path))} is no regular file; choose another name")
    if path.exists() and not force:
        raise UsageError(f"{shown(str(path))} exists; replace it with --force")
