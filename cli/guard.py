"""Every way to fail ends in one line on standard error and an exit code, never in a traceback.

0   done
1   at least one file failed; of nhc also: the command line makes no sense
2   the command line makes no sense (click's own code); --rm did not delete a source, or --salvage found not
    everything; of nhc, as of gzip: some files were left as they are
130 interrupted by Ctrl-C; 143, 129: SIGTERM, SIGHUP
141 whoever read standard output went away (the process dies of SIGPIPE, as tar and shells expect)
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Callable, Iterable
from types import FrameType
from typing import Any, NoReturn

import click

from chunker.cli import files
from chunker.errors import ChunkerError

FAILURE = 1
WARNING = 2
CLOSED_PIPE = 141
HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}

# What one bad file may raise without stopping the others.
FILE_ERRORS = (ChunkerError, OSError, MemoryError, ImportError)

_REMEDIES = {
    errno.ENOENT: "check the name",
    errno.ENOTDIR: "check the name",
    errno.EISDIR: "name a file",
    errno.ENAMETOOLONG: "choose a shorter name with -o",
    errno.EACCES: "check the permissions of the file and of its folder",
    errno.EPERM: "check the permissions of the file and of its folder",
    errno.EROFS: "write elsewhere with -o",
    errno.ENOSPC: "free some space or write elsewhere",
    errno.EDQUOT: "free some space or write elsewhere",
    errno.EFBIG: "write to a file system for larger files, or raise the limit (ulimit -f)",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
    errno.EIO: "try again, and look whether the disk is sound",
    errno.EBADF: "leave standard input and output open, or name files",
}


class ReportLost(Exception):
    """A line about a file that is done cannot be printed; the file itself is complete."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"standard output: {error.strerror}; what was written to files is complete")


_received: list[int] = []  # signals; foreign code may swallow the exception, not the exit code


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end; raised in the main thread, so that `finally` clauses run."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.number = number


class OneLine(click.UsageError):
    """A usage error that is shown as all other failures are: in one line, headed by the program's name."""

    def __init__(self, error: click.UsageError, ctx: click.Context | None, info_name: str | None) -> None:
        """ctx, or else info_name: of the command, where the error knows none."""
        super().__init__(error.format_message(), error.ctx or ctx)
        self.path = self.ctx.command_path if self.ctx is not None else info_name or "chunker"
        if self.path.split()[0] == "nhc":
            self.exit_code = FAILURE  # type: ignore[misc]  # as gzip: 2 is a warning
        self.hint = " (write a file -x as ./-x)" if isinstance(error, click.NoSuchOption) else ""

    def show(self, file: Any = None) -> None:
        text = " ".join(self.format_message().split()).rstrip(".")
        complain(f"{text}; see `{self.path} --help`{self.hint}", self.path.split()[0])


def _one_line(
    error: click.UsageError, ctx: click.Context | None = None, info_name: str | None = None
) -> click.UsageError:
    # Without arguments a group shows its help: an error to click, of a class that older versions lack.
    if isinstance(error, OneLine) or type(error).__name__ == "NoArgsIsHelpError":
        return error
    return OneLine(error, ctx, info_name)


class GuardedCommand(click.Command):
    """A click command whose failures are one line each."""

    def make_context(self, info_name: str | None, *args: Any, **extra: Any) -> click.Context:
        try:
            return super().make_context(info_name, *args, **extra)
        except click.UsageError as error:
            raise _one_line(error, info_name=info_name) from None

    def invoke(self, ctx: click.Context) -> Any:
        return _guarded(ctx, super().invoke)


class GuardedGroup(GuardedCommand, click.Group):
    """A click group whose commands' failures are one line each."""


def _guarded(ctx: click.Context, invoke: Callable[[click.Context], Any]) -> Any:
    # Here and not around `main`: click would turn a TruncatedArchive, which is an EOFError, into "Aborted!".
    try:
        value = invoke(ctx)
        sys.stdout.flush()
        return value
    except click.UsageError as error:
        raise _one_line(error, ctx) from None
    except KeyboardInterrupt as error:
        complain(describe(error))
        ctx.exit(128 + (error.number if isinstance(error, Stopped) else signal.SIGINT))
    except BrokenPipeError:
        # A filter says nothing about `nhc -dc x | head`; a command that was asked for a report does.
        if ctx.find_root().info_name != "nhc":
            complain("whoever read the output closed it before the end")
        ctx.exit(CLOSED_PIPE)
    except (*FILE_ERRORS, ReportLost) as error:
        complain(describe(error))
        ctx.exit(FAILURE)


Failure = dict[str, Any]
"""{"name": path, "error": message, "skipped": whether the file was only left as it is, "kept": whether the
result is there nevertheless: only the source was not deleted, or parts could not be salvaged}"""


def each_file(paths: Iterable[str], action: Callable[[str], None], *, quiet: bool = False) -> list[Failure]:
    """Call `action` on every path, complain about those that fail and go on.

    quiet: do not complain about files that are left as they are. Returns the failures.
    """
    failures: list[Failure] = []
    for path in paths:
        if _received:
            break
        try:
            action(path)
        except BrokenPipeError:
            raise
        except FILE_ERRORS as error:
            message, skipped = describe(error, path), isinstance(error, files.Skipped)
            kept = isinstance(error, files.Warned)
            if not (skipped and quiet):
                complain(f"{files.shown(path)}: {message}")
            failures.append({"name": path, "error": message, "skipped": skipped, "kept": kept})
    return failures


def leave(failures: list[Failure], skipped_code: int = FAILURE) -> None:
    """Exit with the worst code of several files; return if all went well.

    skipped_code: where files were left as they are, and none failed otherwise.
    """
    codes = {WARNING if each["kept"] else skipped_code if each["skipped"] else FAILURE for each in failures}
    if codes:
        click.get_current_context().exit(FAILURE if FAILURE in codes else WARNING)


def describe(error: BaseException, path: str | None = None) -> str:
    """One line on what went wrong; the file's name is left out if it is `path`."""
    if isinstance(error, Stopped):
        text = str(error)
    elif isinstance(error, KeyboardInterrupt):
        text = "interrupted"
    elif isinstance(error, MemoryError):
        text = "out of memory; use fewer threads (-T 1), or raise the limit (ulimit -v)"
    elif isinstance(error, ImportError) and not isinstance(error, ChunkerError):
        text = f"{error}; raise the memory's limit (ulimit -v), or install chunker again"
    elif isinstance(error, OSError) and not isinstance(error, ChunkerError) and error.strerror:
        remedy = _REMEDIES.get(error.errno or 0)
        text = error.strerror if remedy is None else f"{error.strerror}; {remedy}"
        if error.filename is not None and os.fsdecode(error.filename) != path:
            text = f"{files.shown(os.fsdecode(error.filename))}: {text}"
    else:
        text = str(error) or type(error).__name__
        if path and text.startswith((f"{path} ", f"{path}: ")):
            text = text.removeprefix(path).lstrip(": ")
    return files.shown(" ".join(text.split()))  # it may quote a file that anybody wrote


def complain(text: str, program: str | None = None) -> None:
    """Write one line, headed by the program's name, on standard error if there still is one."""
    ctx = click.get_current_context(silent=True)
    if program is None and ctx is not None:
        program = ctx.find_root().info_name
    try:
        click.echo(f"{program or 'chunker'}: {text}", err=True)
    except OSError:
        return  # nobody left to tell; the exit code still says it


def run(command: click.Command, program: str) -> NoReturn:
    """Run a command as a process: signals, standard streams and the exit code included."""
    # Where commands use numpy, its products are small and one thread is quickest: BLAS reads this when it
    # loads.
    for name in ("OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS"):
        os.environ.setdefault(name, "1")
    _catch_signals()
    _open_closed_streams()
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):  # a name that the terminal cannot show is shown escaped
            stream.reconfigure(errors="backslashreplace")
    code = 0
    try:
        command.main(prog_name=program)
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt as error:  # before or after the command proper
        complain(describe(error), program)
        code = 128 + (error.number if isinstance(error, Stopped) else signal.SIGINT)
    except (OSError, MemoryError, ImportError) as error:  # --help and --version on a full disk, say
        complain(describe(error), program)
        code = FAILURE
    if _received and code in (0, FAILURE):
        complain(f"{signal.Signals(_received[0]).name} came; nothing further was done", program)
        code = 128 + _received[0]
    _exit(code, program)


def _open_closed_streams() -> None:
    """Let a standard stream that the shell closed (`>&-`) fail as a full disk does.

    Its number is taken by a file that cannot be read, or written: no other file gets it.
    """
    for number, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if getattr(sys, name) is not None:
            continue
        opened = os.open(os.devnull, os.O_WRONLY if mode == "r" else os.O_RDONLY)
        if opened != number:
            os.dup2(opened, number)
            os.close(opened)
        stream = open(number, mode, closefd=False)  # noqa: SIM115 - for as long as the process lives
        setattr(sys, name, stream)


def _exit(code: int, program: str) -> NoReturn:
    try:
        sys.stdout.flush()
    except OSError as error:
        if code == 0:
            complain(describe(error), program)
            code = FAILURE
    if code == CLOSED_PIPE and hasattr(signal, "SIGPIPE"):
        # GNU tar stops reading at the end of its archive: it forgives SIGPIPE, but no exit code.
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGPIPE)
    if code != 0:
        # Not sys.exit: it would wait for the threads' current blocks, and flush what cannot be written.
        with contextlib.suppress(OSError):  # closed
            sys.stderr.flush()
        os._exit(code)
    sys.exit(0)


def _catch_signals() -> None:
    caught = [signal.SIGINT, signal.SIGTERM]
    if hasattr(signal, "SIGHUP"):
        caught.append(signal.SIGHUP)

    def stop(number: int, frame: FrameType | None) -> None:
        _received.append(number)
        for each in caught:
            signal.signal(each, stop_at_once)
        if number == signal.SIGINT:
            raise KeyboardInterrupt
        raise Stopped(number)

    def stop_at_once(number: int, frame: FrameType | None) -> None:
        files.remove_temporaries()
        os._exit(128 + number)

    for number in caught:
        if signal.getsignal(number) is not signal.SIG_IGN:  # nohup stays nohup
            signal.signal(number, stop)
