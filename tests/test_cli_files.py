"""Sources are checked, targets appear complete or not at all."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

import pytest

from chunker.cli import files
from chunker.errors import UsageError

POSIX = pytest.mark.skipif(os.name != "posix", reason="needs POSIX files")


@pytest.fixture(autouse=True, params=["without a name", "hidden"])
def in_tmp_path(tmp_path, monkeypatch, request) -> bool:
    """Whether the file that is written has a name meanwhile."""
    monkeypatch.chdir(tmp_path)
    Path("source").write_bytes(b"content")
    if request.param == "hidden":
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    return not files._can_be_unnamed("")


def write(target: str, content: bytes = b"new", source: str = "source", **options: bool) -> None:
    with files.open_source(source) as opened, files.open_target(target, opened, **options) as stream:
        stream.write(content)


def write_half(target: str, failure: type[BaseException]) -> None:
    with files.open_source("source") as source, files.open_target(target, source, force=True) as stream:
        stream.write(b"half")
        raise failure


def write_late(target: str) -> None:
    """Somebody else is quicker to write the same target."""
    with files.open_source("source") as source, files.open_target(target, source) as stream:
        stream.write(b"mine")
        Path(target).write_bytes(b"theirs")


def lose(target: str) -> None:
    with files.open_source("source") as source, files.open_target(target, source):
        files.remove_temporaries()
        assert listing() == ["source"]


def listing() -> list[str]:
    return sorted(os.listdir())


def test_target_appears_when_complete():
    with files.open_source("source") as source:
        with files.open_target("target", source) as stream:
            stream.write(b"new")
            stream.flush()
            assert not os.path.exists("target")
        assert Path("target").read_bytes() == b"new"
    assert listing() == ["source", "target"]


@pytest.mark.parametrize("failure", [ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [None, b"old"])
def test_failure_leaves_what_was_there(failure, old):
    if old is not None:
        Path("target").write_bytes(old)
    with pytest.raises(failure):
        write_half("target", failure)
    assert listing() == (["source"] if old is None else ["source", "target"])
    if old is not None:
        assert Path("target").read_bytes() == old


def test_existing_target_needs_force():
    Path("target").write_bytes(b"old")
    with pytest.raises(UsageError, match="target exists; replace it with -f"):
        write("target")
    assert Path("target").read_bytes() == b"old"
    write("target", force=True)
    assert Path("target").read_bytes() == b"new"
    assert listing() == ["source", "target"]


def test_target_that_comes_up_meanwhile_is_kept():
    with pytest.raises(UsageError, match="exists"):
        write_late("target")
    assert Path("target").read_bytes() == b"theirs"
    assert listing() == ["source", "target"]


def test_without_hard_links(monkeypatch):
    def no_links(*_: object, **__: object) -> None:
        raise OSError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    write("target")
    assert Path("target").read_bytes() == b"new"
    assert listing() == ["source", "target"]
    with pytest.raises(UsageError, match="exists"):
        write_late("other")
    assert Path("other").read_bytes() == b"theirs"


def test_the_last_of_two_writers_wins_whole():
    with files.open_source("source") as source, files.open_target("target", source, force=True) as first:
        first.write(b"first " * 1000)
        with files.open_target("target", source, force=True) as second:
            second.write(b"second")
        first.write(b"first " * 1000)
    assert Path("target").read_bytes() == b"first " * 2000
    assert listing() == ["source", "target"]


def test_name_as_long_as_names_can_be():
    name = "n" * 255
    write(name)
    assert listing() == [name, "source"]


@pytest.mark.parametrize("force", [False, True])
@pytest.mark.parametrize("link", [None, os.symlink, os.link])
def test_source_is_never_its_own_target(force, link):
    target = "source"
    if link is not None:
        target = "target"
        link("source", target)
    with pytest.raises(UsageError, match="same file"):
        write(target, force=force)
    assert Path("source").read_bytes() == b"content"


def test_folders_are_refused():
    os.mkdir("folder")
    with pytest.raises(UsageError, match="is a directory; name the files"), files.open_source("folder"):
        pass
    with pytest.raises(UsageError, match="folder is a directory; name a file"):
        write("folder", force=True)
    with pytest.raises(FileNotFoundError), files.open_source("nothing"):
        pass
    with pytest.raises(FileNotFoundError) as caught:
        write("nowhere/target")
    assert caught.value.filename == "nowhere/target", "the temporary file's name means nothing to the user"


@POSIX
def test_symbolic_links():
    os.symlink("source", "link")
    with files.open_source("link") as source:
        assert source.stream.read() == b"content"
    with pytest.raises(UsageError, match="leave out --rm"), files.open_source("link", remove=True):
        pass
    os.symlink("nothing", "dangling")
    with pytest.raises(UsageError, match="link to nothing"):
        write("dangling")
    Path("other").write_bytes(b"other")
    os.symlink("other", "replaced")
    write("replaced", force=True)
    assert not os.path.islink("replaced")
    assert Path("other").read_bytes() == b"other"


@POSIX
def test_pipes_and_devices():
    os.mkfifo("pipe")
    with pytest.raises(UsageError, match="no regular file; name the output"), files.open_source("pipe"):
        pass
    with (
        pytest.raises(UsageError, match="no regular file"),
        files.open_source("pipe", named_target=True, remove=True),
    ):
        pass
    reader = os.open("pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write("pipe")
        assert os.read(reader, 100) == b"new"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(os.stat("pipe").st_mode)
    write(os.devnull, force=True)
    assert stat.S_ISCHR(os.stat(os.devnull).st_mode)
    with files.open_source(os.devnull, named_target=True) as source:
        assert source.size is None
        assert source.stream.read() == b""


@POSIX
def test_mode_and_times_are_carried_over():
    os.chmod("source", 0o4640)
    os.utime("source", ns=(1_000_000_000, 1_234_567_890_123_456_700))
    write("target")
    status = os.stat("target")
    assert stat.S_IMODE(status.st_mode) == 0o640, "a set-user-id bit is not for copies"
    assert abs(status.st_mtime_ns - 1_234_567_890_123_456_700) < 1000


@POSIX
def test_nobody_else_reads_a_private_file_meanwhile(in_tmp_path):
    os.chmod("source", 0o600)
    with files.open_source("source") as source, files.open_target("target", source) as target:
        assert stat.S_IMODE(os.fstat(target.fileno()).st_mode) == 0o600
        parts = [name for name in os.listdir() if name.endswith(".nhc-part")]
        assert len(parts) == in_tmp_path


@POSIX
def test_another_group_may_do_no_more_than_others(monkeypatch):
    os.chmod("source", 0o664)
    wanted = os.stat("source")

    def refused(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "chown", refused)
    Path("target").touch()
    fields = list(wanted)
    fields[5] += 1
    files._carry_over(os.stat_result(fields, {"st_atime_ns": 0, "st_mtime_ns": 0}), "target")
    assert stat.S_IMODE(os.stat("target").st_mode) == 0o644


@POSIX
def test_source_that_was_replaced_is_not_deleted():
    with files.open_source("source", remove=True) as source:
        Path("newer").write_bytes(b"newer")
        os.replace("newer", "source")
    with pytest.raises(files.NotDeleted, match=r"not deleted \(it was replaced meanwhile\); target has what"):
        files.remove_source(source, "target")
    assert Path("source").read_bytes() == b"newer"


def test_source_that_cannot_be_deleted():
    with files.open_source("source", remove=True) as source:
        os.unlink("source")
    with pytest.raises(files.NotDeleted, match=r"No such file or directory\); target has what .*; delete it"):
        files.remove_source(source, "target")


@POSIX
def test_name_that_is_too_long():
    with pytest.raises(OSError, match="too long") as caught:
        write("n" * 256)
    assert caught.value.filename == "n" * 256
    assert listing() == ["source"]


def test_temporaries_can_be_removed_from_outside():
    """As a second signal does, while the first one's `finally` clauses take their time."""
    with contextlib.suppress(FileNotFoundError):
        lose("target")
    assert "nhc-part" not in "".join(listing())


@pytest.mark.parametrize(
    ("archive", "plain"), [("a.nhc", "a"), ("d/a.tar.nhc", "d/a.tar"), (".nhc.nhc", ".nhc"), ("-", "-")]
)
def test_names(archive, plain):
    assert files.target_for_decompressing(archive) == plain
    if plain != ".nhc":
        assert files.target_for_compressing(plain) == archive


@pytest.mark.parametrize("name", ["a", "a.gz", "a.NHC", ".nhc", "d/.nhc", "a.nhc/b"])
def test_names_that_are_no_archives(name):
    with pytest.raises(UsageError, match="name the output with -o"):
        files.target_for_decompressing(name)


def test_archives_are_not_compressed_again():
    with pytest.raises(UsageError, match=r"has the suffix \.nhc already"):
        files.target_for_compressing("a.nhc")


def test_shown_names_cannot_move_the_cursor():
    assert files.shown("a\x1b[31m\nb\udce9 é") == "a\\x1b[31m\\nb\\udce9 é"
