"""Compress, decompress or test one file: sources and targets on one side, the codec on the other."""

from __future__ import annotations

import contextlib
import functools
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import click

from chunker.cli import files, memory, options
from chunker.cli.guard import ReportLost, complain, each_file, leave
from chunker.cli.options import NO_MODEL
from chunker.cli.progress import Progress, watched
from chunker.cli.report import Figures, Outcome, print_json
from chunker.errors import ArchiveError, UsageError, VerifyError

if TYPE_CHECKING:
    from chunker.codec.cluster import Shared
    from chunker.codec.effort import Effort
    from chunker.codec.presets import Preset
    from chunker.codec.salvage import Piece
    from chunker.core.backend import Trace
    from chunker.models import Model


@dataclass(frozen=True)
class Job:
    """What the command line asks of every file.

    output: a name, "-" for standard output, None for FILE.nhc or the name without it.
    model: a name or path, None for the default when compressing and the archive's own otherwise, NO_MODEL for
    contexts alone. threads: None for as many as there are cores. preset: of chunker.codec.presets.PRESETS.
    suffix: what names of archives end in. cluster: the address of a scheduler, None to code here.
    verify: decode what was written; None: if the source is deleted.
    """

    output: str | None = None
    force: bool = False
    remove: bool = False
    model: str | None = None
    threads: int | None = None
    quiet: bool = False
    preset: str = "default"
    suffix: str = files.SUFFIX
    cluster: str | None = None
    verify: bool | None = None

    @property
    def verifies(self) -> bool:
        """Whether to decode what was written."""
        return self.remove if self.verify is None else self.verify

    def check(self, paths: Sequence[str]) -> None:
        """Raise click.UsageError if the options do not go together."""
        if self.output not in (None, files.STANDARD) and len(paths) > 1:
            raise click.UsageError("-o names one output, so it takes one file; use -c to join several")
        if self.remove and self.output == files.STANDARD:
            raise click.UsageError("--rm and standard output do not go together: the result may get lost")
        if self.verify and self.output == files.STANDARD:
            raise click.UsageError("--verify needs a file that can be read back; name one with -o")


def takes_job(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command `job` in place of the options that make it."""

    @functools.wraps(function)
    def command(**values: Any) -> None:
        values["output"] = options.output_of(values.get("output"), values.pop("stdout", False))
        limit = values.pop("memory", None)
        if limit is not None:
            values["threads"] = memory.threads_within(limit, values["threads"])
        of_job = {field.name: values.pop(field.name) for field in fields(Job) if field.name in values}
        function(job=Job(**of_job), **values)

    return command


class Lines:
    """Prints a line for each file. If nobody can read them any longer, the files that remain are done all the
    same, and `close` tells."""

    def __init__(self, *, err: bool) -> None:
        """err: on standard error."""
        self._err = err
        self._lost: OSError | None = None

    def print(self, line: str) -> None:
        """Print one, unless an earlier one was lost."""
        if self._lost is None:
            try:
                click.echo(line, err=self._err)
            except OSError as error:
                self._lost = error

    def close(self) -> None:
        """Raise BrokenPipeError or ReportLost if a line was lost."""
        if isinstance(self._lost, BrokenPipeError):
            raise self._lost
        if self._lost is not None:
            raise ReportLost(self._lost) from self._lost


class Ahead:
    """Does an action to paths, several at a time; called with one path after the other, it gives what came of
    each in its turn, or raises it."""

    def __init__(self, action: Callable[[str], Outcome], paths: Sequence[str], at_a_time: int) -> None:
        from chunker.codec.pool import Pool

        self._action = action
        self._results = Pool(self._attempt, at_a_time).imap(paths)

    def __call__(self, path: str) -> Outcome:
        """path: the next one."""
        result = next(self._results)
        if isinstance(result, Exception):
            raise result
        return result

    def _attempt(self, path: str, *pools: Any) -> Outcome | Exception:
        try:
            return self._action(path)
        except Exception as error:  # noqa: BLE001 - it is raised in its turn
            return error


def report_each(
    action: Callable[[str], Outcome],
    paths: tuple[str, ...],
    job: Job,
    as_json: bool,
    line: Callable[[Outcome], str] = Outcome.line,
    at_a_time: int = 1,
) -> None:
    """Do `action` to every path, print a line for each or one JSON document, exit with the worst code."""
    if at_a_time > 1:
        action = Ahead(action, paths, at_a_time)
    data_on_stdout = files.is_standard_output(job.output) or (job.output is None and files.STANDARD in paths)
    outcomes: list[Outcome] = []
    lines = Lines(err=data_on_stdout)

    def one(path: str) -> None:
        outcomes.append(action(path))
        if not (job.quiet or as_json):
            lines.print(line(outcomes[-1]))
        if (warning := outcomes[-1].warning) is not None:
            raise warning

    if as_json and data_on_stdout:
        raise click.UsageError("--json and data cannot both go to standard output; name the output with -o")
    failures = each_file(paths, one)
    if as_json:
        print_json({"files": [outcome.to_json() for outcome in outcomes], "errors": failures})
    leave(failures)
    lines.close()


def how_to_code(preset: str, model: str | None) -> Preset:
    """By a preset and a model's name, or NO_MODEL."""
    from chunker.codec import presets

    return presets.without_model(preset) if model == NO_MODEL else preset


def named_model(model: str | None) -> Model | None:
    """The model of a name or path; None: none was named, or NO_MODEL.

    Raises
    ------
    ModelNotFound, NotAModel, ModelVersionError.
    """
    if model in (None, NO_MODEL):
        return None
    from chunker.models import load_model

    return load_model(model)


class Worker:
    """Does one job on any number of files, with the model loaded once.

    Raises
    ------
    UsageError: the core that the environment names cannot be had.
    """

    def __init__(self, job: Job) -> None:
        from chunker.core.backend import backend

        self.job = job
        self._cluster: Shared | None = None
        self._at_a_time = 1
        if backend().name == "python" and not job.quiet:
            complain("there is no compiled core here, so Python codes: a few hundred bytes a second")

    @contextlib.contextmanager
    def in_place(self, paths: Sequence[str]) -> Iterator[int]:
        """Where the job is to be done: here, or on a cluster, which is held for as long as the context lasts.

        Yields how many of the files to work on at a time: here one, on a cluster as many as it codes blocks.

        Raises
        ------
        ExecutorError: the cluster cannot be reached, or codes otherwise than this process.
        """
        if self.job.cluster is None:
            yield 1
            return
        from chunker.codec.cluster import Shared, connected, require_same
        from chunker.codec.finder import Sent, as_model

        with connected(self.job.cluster) as client:
            require_same(client, Sent(as_model(self.model, self.preset)))
            self._cluster = Shared(client, self.job.threads)
            if self.job.output != files.STANDARD and files.STANDARD not in paths:
                self._at_a_time = max(min(len(paths), *self._cluster.nthreads().values()), 1)
            try:
                yield self._at_a_time
            except KeyboardInterrupt:
                files.remove_temporaries()  # of files that other threads are at
                raise

    @contextlib.contextmanager
    def _coding(
        self, label: str, total: Callable[[], int | Effort | None]
    ) -> Iterator[tuple[Progress, dict[str, Any]]]:
        """While a file is coded: a bar, if no other file has one, and what the codec is told of where.

        total: what Progress is given; called if somebody sees the bar.
        """
        quiet = self.job.quiet or self._at_a_time > 1 or not watched()
        with contextlib.closing(Progress(label, None if quiet else total(), quiet=quiet)) as bar:
            if self._cluster is None:
                yield bar, {"workers": self.job.threads, "advance": bar.advance}
                return
            with self._cluster.file():
                yield bar, {"executor": self._cluster, "advance": bar.advance}

    @cached_property
    def model(self) -> Model | None:
        """The model that was asked for; None: none was."""
        return named_model(self.job.model)

    @cached_property
    def preset(self) -> Preset:
        """How to compress."""
        return how_to_code(self.job.preset, self.job.model)

    @property
    def needs_model(self) -> bool:
        """Whether a model takes part in compressing."""
        from chunker.codec.presets import settings_of

        return settings_of(self.preset).needs_model

    @property
    def model_name(self) -> str | None:
        """Of the model that takes part in compressing; None: contexts alone."""
        from chunker.codec.finder import as_model

        return as_model(self.model, self.preset).name if self.needs_model else None

    def trace(
        self,
        data: bytes,
        advance: Callable[[int, int], None],
        *,
        detail: bool = False,
        rank_from: float | None = None,
    ) -> Trace:
        """What compressing would cost, byte for byte; see `chunker.codec.tracing.trace`."""
        from chunker.codec.tracing import trace

        return trace(
            data,
            self.preset,
            model=self.model,
            workers=self.job.threads,
            advance=advance,
            detail=detail,
            rank_from=rank_from,
        )

    def compress(self, path: str) -> Outcome:
        """Write the archive of one file; `files` and the codec say what can be raised."""
        from chunker.codec.pipes import pack

        job = self.job
        with self._open(path, directory=files.PACK_DIRECTORY) as source:
            name = job.output or files.target_for_compressing(path, job.suffix)
            with self._open_target(name, source) as target:
                files.refuse_terminal_output(target, job.force)
                if job.verifies and (name == files.STANDARD or not target.readable()):
                    raise UsageError("--verify needs a file that can be read back; name one with -o")
                content = files.Digesting(source.stream)
                with self._coding(path, lambda: _packing(source, self.preset)) as (bar, how):
                    packed = pack(cast(BinaryIO, content), target, self.preset, model=self.model, **how)
                if job.verifies:
                    self._verify(path, target, content.digest)
        figures = Figures(bar.done, packed.bytes_out)
        return self._source_removed(
            source,
            Outcome(path, figures, bar.seconds, target=name, model=packed.model, verified=job.verifies),
        )

    def decompress(self, path: str) -> Outcome:
        """Write the content of one archive; `files` and the codec say what can be raised.

        With force, what is no archive goes to standard output as it is, as with gzip.
        """
        job, path = self.job, self._archive(path)
        with self._open(path) as source:
            name = job.output or files.target_for_decompressing(path, job.suffix)
            with self._open_target(name, source) as target:
                outcome = self._unpack(source, target, copy=job.force and name == files.STANDARD)
        return self._source_removed(source, replace(outcome, target=name, unpacking=True))

    def salvage(self, path: str) -> Outcome:
        """Write what is intact of one archive, which may be damaged, and complain of what is missing."""
        from chunker.codec.finder import ModelFinder
        from chunker.codec.salvage import salvage

        path = self._archive(path)
        with self._open(path) as source:
            name = self.job.output or files.target_for_decompressing(path, self.job.suffix)
            data, models = files.contents(source), ModelFinder(self.model)
            missing: list[tuple[Piece, int]] = []
            at = 0
            with self._open_target(name, source) as target:
                bar = Progress(path, None, quiet=self.job.quiet)
                with contextlib.closing(bar):
                    for piece in salvage(data, models, bar.advance):
                        target.write(piece.content)
                        at += len(piece.content)
                        if piece.lost != 0 or not piece.checked:
                            missing.append((piece, at))
        outcome = Outcome(path, Figures(bar.done, len(data)), bar.seconds, target=name, unpacking=True)
        outcome = replace(outcome, model=", ".join(models.found) or None)
        if not missing:
            return outcome
        for piece, at in missing:
            complain(f"{files.shown(path)}: {_missing(piece, at)}")
        lost = sum(piece.lost or 0 for piece, _ in missing)
        parts = "1 part is" if len(missing) == 1 else f"{len(missing)} parts are"
        told = f"{parts} missing, {lost:,} bytes as far as is known; the rest was written"
        return replace(outcome, warning=files.Warned(told))

    def test(self, path: str) -> Outcome:
        """Decode one archive and throw the content away; raises what `decompress` raises."""
        with files.open_source(self._archive(path), named_target=True) as source:
            return self._unpack(source, None)

    def _archive(self, path: str) -> str:
        if path == files.STANDARD:
            files.refuse_terminal_input(self.job.force)
        return files.archive_at(path, self.job.suffix)

    def _open(self, path: str, **more: str) -> contextlib.AbstractContextManager[files.Source]:
        named = self.job.output is not None
        return files.open_source(path, named_target=named, remove=self.job.remove, **more)

    def _open_target(self, name: str, source: files.Source) -> contextlib.AbstractContextManager[BinaryIO]:
        job = self.job
        named = job.output is not None
        durable = job.remove and source.status is not None  # standard input does not go away
        return files.open_target(name, source, force=job.force, durable=durable, named=named)

    def _verify(self, path: str, written: BinaryIO, digest: bytes) -> None:
        """Decode an archive that was just written, from the file. digest: of the content.

        Raises
        ------
        VerifyError: it is not that content.
        """
        from chunker.codec.pipes import unpack

        written.seek(0)
        found = files.Digesting()
        with self._coding(f"{path}: verifying", lambda: _unpacking(written)) as (_, how):
            try:
                unpack(written, cast(BinaryIO, found), model=self.model, **how)
                reason = "" if found.digest == digest else "the content is another one"
            except ArchiveError as error:
                reason = str(error).partition(":")[0]
        if reason:
            raise VerifyError(
                f"what was written does not decode ({reason}); the source stays, try again, and have memory "
                "and disk checked"
            )

    def _source_removed(self, source: files.Source, outcome: Outcome) -> Outcome:
        """The outcome, its source deleted where that was asked for."""
        if self.job.remove and outcome.target is not None:
            try:
                files.remove_source(source, outcome.target)
            except files.NotDeleted as warning:
                return replace(outcome, warning=warning)
        return outcome

    def _unpack(self, source: files.Source, target: BinaryIO | None, *, copy: bool = False) -> Outcome:
        """copy: write what is no archive as it is."""
        from chunker.codec.frames import MAGIC
        from chunker.codec.pipes import unpack

        archive = files.CountedInput(source.stream)
        with self._coding(source.path, lambda: source.size and _unpacking(source.stream)) as (bar, how):
            if copy and target is not None and archive.peek(len(MAGIC)) != MAGIC:
                shutil.copyfileobj(archive, target)
                return Outcome(source.path, Figures(archive.count, archive.count), bar.seconds)
            found = unpack(cast(BinaryIO, archive), target, model=self.model, **how)
        if found.padding_bytes and not self.job.quiet:
            ignored = f"{found.padding_bytes:,} zero bytes behind the archive are ignored"
            complain(f"{files.shown(source.path)}: {ignored}")
        model = ", ".join(found.models) or None
        return Outcome(source.path, Figures(bar.done, archive.count), bar.seconds, model=model)


def _missing(piece: Piece, at: int) -> str:
    """What is not there, or not certain, of a part that was read up to that byte of the result."""
    if piece.lost == 0:
        return f"the last {len(piece.content):,} bytes before byte {at:,} of the result lack their checksum"
    count = "an unknown number of" if piece.lost is None else f"{piece.lost:,}"
    where = f"before byte {at:,} of the result; they were at {piece.at:,} in the archive"
    return f"{count} bytes are missing {where}"


def _packing(source: files.Source, preset: Preset) -> int | Effort | None:
    """How much work a source is."""
    from chunker.codec.effort import of_content
    from chunker.codec.presets import settings_of

    if source.size is None or source.status is None:  # only a file of this machine is quickly looked at
        return source.size
    return of_content(source.stream, source.size, settings_of(preset))


def _unpacking(archive: BinaryIO) -> Effort | None:
    """How much work an archive is; the file stays where it is."""
    from chunker.codec.effort import of_archive

    begin = archive.tell()
    try:
        return of_archive(archive)
    except ArchiveError:
        return None  # decoding it will say why
    finally:
        archive.seek(begin)
