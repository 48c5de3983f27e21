"""The commands of `chunker`, in this process."""

from __future__ import annotations

import functools
import json
import os
import stat
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import cli_support
import click
import pytest
from cli_support import TEXT, one_line
from click.testing import Result
from small_blocks import cut_small
from stand_in import StandIn, skewed, use

from chunker.benchmark import measure, peers
from chunker.benchmark.planted import plant
from chunker.cli import report
from chunker.cli.main import COMMANDS, chunker
from chunker.cli.nhc import nhc
from chunker.codec import presets, samples
from chunker.codec.frames import MAX_BLOCK_BYTES
from chunker.codec.info import frame_info
from chunker.codec.stream import compress, decompress
from chunker.core.backend import backend
from chunker.errors import ChunkerError, UsageError
from chunker.models import load_model, save_model
from chunker.version import __version__


@pytest.fixture(autouse=True)
def model(tmp_path, monkeypatch, tiny_model) -> str:
    monkeypatch.chdir(tmp_path)
    Path("a.txt").write_bytes(TEXT)
    return str(tiny_model.path)


call = functools.partial(cli_support.call, chunker)


def document(result: Result) -> Any:
    """The one JSON document that --json promises."""
    return json.loads(result.stdout)


def test_there_and_back(model):
    result = call("compress", "a.txt", "-m", model)
    size = os.path.getsize("a.txt.nhc")
    assert Path("a.txt").read_bytes() == TEXT
    name, rest = result.stdout.rstrip("\n").split(": ")
    assert name == "a.txt"
    assert rest == (
        f"{len(TEXT)} -> {size} bytes, ratio {len(TEXT) / size:.3f}, "
        f"{8 * size / len(TEXT):.3f} bits/byte, model {Path(model).stem}"
    )
    assert result.stderr == ""
    result = call("decompress", "a.txt.nhc", "-o", "copy", "-m", model)
    assert result.stdout.startswith(f"a.txt.nhc: {size} -> {len(TEXT)} bytes, ratio")
    assert Path("copy").read_bytes() == TEXT
    assert Path("a.txt.nhc").exists()
    assert "OK" in call("test", "a.txt.nhc", "-m", model).stdout


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 100])
def test_odd_content(model, content):
    Path("odd").write_bytes(content)
    call("compress", "odd", "-m", model, "--rm")
    assert not Path("odd").exists()
    call("decompress", "odd.nhc", "-m", model, "--rm")
    assert Path("odd").read_bytes() == content
    assert not Path("odd.nhc").exists()


def grow(name: str) -> None:
    with open(name, "ab") as file:
        file.write(b"one more line\n")


def change(name: str) -> None:
    with open(name, "r+b") as file:
        file.write(b"x")


def shrink(name: str) -> None:
    os.truncate(name, 3)


def replace(name: str) -> None:
    Path("newer").write_bytes(Path(name).read_bytes())
    os.replace("newer", name)


@pytest.mark.parametrize(
    ("program", "args", "happens"),
    [
        (chunker, ["compress", "a.txt"], grow),
        (chunker, ["compress", "a.txt"], change),
        (chunker, ["compress", "a.txt"], shrink),
        (chunker, ["compress", "a.txt"], replace),
        (chunker, ["decompress", "a.nhc"], change),
        (nhc, ["a.txt"], grow),
        (nhc, ["-d", "a.nhc"], change),
    ],
)
def test_a_source_that_changed_while_it_was_read_is_not_deleted(program, args, happens, monkeypatch):
    use(monkeypatch, StandIn())
    call("compress", "a.txt", "-o", "a.nhc", "--fast")
    source = args[-1]
    target = {"a.txt": "a.txt.nhc", "a.nhc": "a"}[source]
    for name in ("a.txt", "a.nhc"):
        os.utime(name, (1e9, 1e9))
    use(monkeypatch, StandIn(before=lambda block, stop: happens(source)))
    result = cli_support.call(program, *args, "--rm", code=2)
    assert one_line(result.stderr.encode()).startswith(f"{program.name}: {source}: is not deleted (it ")
    assert f"{target} has what was read" in result.stderr
    assert Path(source).exists()
    use(monkeypatch, StandIn())
    if source == "a.txt":
        assert decompress(Path(target).read_bytes()) == TEXT
    else:
        assert Path(target).read_bytes() == TEXT


def test_a_source_that_is_kept_is_told_of_in_json(monkeypatch):
    Path("b.txt").write_bytes(TEXT)
    use(monkeypatch, StandIn(before=lambda block, stop: grow("a.txt") if block == 1 else None))
    done = document(call("compress", "a.txt", "b.txt", "--fast", "--rm", "--json", code=2))
    assert [file["target"] for file in done["files"]] == ["a.txt.nhc", "b.txt.nhc"]
    assert [(error["name"], error["kept"]) for error in done["errors"]] == [("a.txt", True)]
    assert sorted(os.listdir()) == ["a.txt", "a.txt.nhc", "b.txt.nhc"]
    done = document(call("compress", "a.txt", "nothing", "-f", "--fast", "--rm", "--json", code=1))
    assert [error["kept"] for error in done["errors"]] == [False]


@pytest.mark.parametrize(
    ("options", "verified"),
    [([], False), (["--verify"], True), (["--rm"], True), (["--rm", "--no-verify"], False)],
)
def test_what_was_written_is_decoded_before_it_counts_as_done(options, verified, monkeypatch):
    core = use(monkeypatch, StandIn())
    result = call("compress", "a.txt", "--fast", *options)
    assert result.stdout.endswith(", verified\n") == verified
    assert core.calls == 1 + verified
    result = cli_support.call(nhc, "-1vf", "-o", "b.nhc", "a.txt.nhc", *options)
    assert result.stderr.endswith(", verified\n") == verified


class Forgetful(StandIn):
    """Its payloads do not decode to what it was given."""

    def encode(self, content: bytes, *rest: Any) -> bytes | None:
        return super().encode(b"x" + content[1:], *rest)


@pytest.mark.parametrize("hidden", [False, True])
@pytest.mark.parametrize("options", [["--verify"], ["--rm"]])
def test_an_archive_that_does_not_decode_is_not_kept(options, hidden, monkeypatch):
    if hidden:
        monkeypatch.delattr(os, "O_TMPFILE", raising=False)
    use(monkeypatch, Forgetful())
    result = call("compress", "a.txt", "--fast", *options, code=1)
    message = one_line(result.stderr.encode())
    assert "a.txt: what was written does not decode (the archive is damaged" in message
    assert "the source stays" in message
    assert os.listdir() == ["a.txt"]
    call("compress", "a.txt", "--fast")  # that is what --verify is for


def test_only_what_can_be_read_back_can_be_verified():
    for args in (["a.txt", "-c"], ["a.txt", "-o", os.devnull], ["-"]):
        assert (
            "--verify needs a file"
            in call("compress", *args, "--verify", code=2 if "-c" in args else 1).stderr
        )


def test_json_of_compress_decompress_and_test(model):
    done = document(call("compress", "a.txt", "-m", model, "--json"))
    assert done["errors"] == []
    (file,) = done["files"]
    size = os.path.getsize("a.txt.nhc")
    assert file.pop("seconds") >= 0
    figures = {"ratio": round(len(TEXT) / size, 4), "bits_per_byte": round(8 * size / len(TEXT), 4)}
    assert file == {
        "name": "a.txt",
        "target": "a.txt.nhc",
        "bytes_in": len(TEXT),
        "bytes_out": size,
        "model": Path(model).stem,
        "verified": False,
        **figures,
    }
    tested = document(call("test", "a.txt.nhc", "-m", model, "--json"))["files"][0]
    assert (tested["bytes_in"], tested["bytes_out"], tested["target"]) == (len(TEXT), size, None)
    unpacked = document(call("decompress", "a.txt.nhc", "-o", "copy", "-m", model, "--json"))["files"][0]
    assert (unpacked["bytes_in"], unpacked["bytes_out"]) == (size, len(TEXT))
    assert unpacked["bits_per_byte"] == figures["bits_per_byte"]


def test_one_bad_file_does_not_stop_the_others(model):
    Path("b.txt").write_bytes(b"b")
    result = call("compress", "a.txt", "nothing", "b.txt", "-m", model, code=1)
    assert result.stderr == "chunker: nothing: No such file or directory; check the name\n"
    assert len(result.stdout.splitlines()) == 2
    assert Path("a.txt.nhc").exists()
    assert Path("b.txt.nhc").exists()
    os.unlink("b.txt.nhc")
    result = call("compress", "a.txt", "b.txt", "-m", model, "--json", code=1)
    done = document(result)
    assert [file["name"] for file in done["files"]] == ["b.txt"]
    assert [error["name"] for error in done["errors"]] == ["a.txt"]
    assert "exists; replace it with -f" in done["errors"][0]["error"]
    call("compress", "a.txt", "b.txt", "-m", model, "-f")


@pytest.mark.parametrize("damage", ["cut", "flipped", "garbage", "other"])
def test_damaged_archives_leave_nothing(model, damage):
    call("compress", "a.txt", "-m", model)
    archive = bytearray(Path("a.txt.nhc").read_bytes())
    if damage == "cut":
        del archive[-3:]
    elif damage == "flipped":
        archive[len(archive) // 2] ^= 4
    elif damage == "garbage":
        archive += b"garbage"
    else:
        archive = bytearray(b"no archive")
    Path("bad.nhc").write_bytes(archive)
    before = sorted(os.listdir())
    for command in ("decompress", "test"):
        result = call(command, "bad.nhc", "-m", model, code=1)
        assert result.stderr.startswith("chunker: bad.nhc: ")
        assert len(result.stderr.splitlines()) == 1
        assert result.stdout == ""
    assert sorted(os.listdir()) == before


def test_missing_models(model):
    Path("no-model").write_bytes(b"nothing of the kind")
    for wrong in ("no-such-model", "no-model"):
        result = call("compress", "a.txt", "-m", wrong, code=1)
        assert len(result.stderr.splitlines()) == 1
        assert wrong in result.stderr
    assert sorted(os.listdir()) == ["a.txt", "no-model"]


def test_standard_streams(model):
    packed = call("compress", "-", "-m", model, stdin=TEXT)
    assert packed.stderr.startswith("-: ")
    Path("from-stdin.nhc").write_bytes(packed.stdout_bytes)
    plain = call("decompress", "from-stdin.nhc", "-c", "-q", "-m", model)
    assert plain.stdout_bytes == TEXT
    assert plain.stderr == ""
    joined = call("compress", "a.txt", "a.txt", "-c", "-q", "-m", model)
    assert call("decompress", "-", "-q", "-m", model, stdin=joined.stdout_bytes).stdout_bytes == TEXT + TEXT


@pytest.mark.parametrize(
    "args",
    [
        ["compress"],
        ["compress", "a.txt", "b.txt", "-o", "c"],
        ["compress", "a.txt", "-c", "-o", "c"],
        ["compress", "a.txt", "-c", "--rm"],
        ["compress", "a.txt", "-c", "--json"],
        ["compress", "a.txt", "-T", "-1"],
        ["compress", "a.txt", "--nonsense"],
        ["bench", "a.txt", "--piece", "0"],
        ["nonsense"],
    ],
)
def test_usage_errors(args):
    result = call(*args, code=2)
    assert one_line(result.stderr_bytes).startswith("chunker: ")
    assert sorted(os.listdir()) == ["a.txt"]


@pytest.mark.usefixtures("small_blocks")
def test_output_does_not_depend_on_threads(model):
    Path("big").write_bytes(os.urandom(3000) + skewed(9000) + bytes(3000))
    call("compress", "big", "-m", model, "-T", "1", "-o", "one")
    call("compress", "big", "-m", model, "-T", "3", "-o", "three")
    assert Path("one").read_bytes() == Path("three").read_bytes()
    call("decompress", "one", "-T", "3", "-m", model, "-o", "copy")
    assert Path("copy").read_bytes() == Path("big").read_bytes()


def test_list(model):
    Path("noise").write_bytes(os.urandom(1 << 16))
    call("compress", "a.txt", "noise", "-m", model, "--fast")
    result = call("list", "a.txt.nhc", "noise.nhc", "missing.nhc", code=1)
    head, first, second, total = result.stdout.splitlines()
    assert head.split("  ")[0] == "archive"
    assert first.split()[:3] == ["a.txt.nhc", str(len(TEXT)), str(os.path.getsize("a.txt.nhc"))]
    assert "1 raw" in second
    assert total.split()[1] == f"{len(TEXT) + (1 << 16):,}"
    listed = document(call("list", "noise.nhc", "--json"))["archives"][0]
    assert listed["bytes_in"] == 1 << 16
    assert listed["blocks"] == {"raw": 1}
    assert listed["settings"] == []
    assert listed["bits_per_byte"] > 8


def test_list_tells_the_model(model, tiny_model):
    Path("coded").write_bytes(b"e" * 9)
    call("compress", "coded", "-m", model)
    listed = document(call("list", "coded.nhc", "--json"))["archives"][0]
    for found in listed["models"]:
        assert tiny_model.fingerprint.hex().startswith(found["fingerprint"])


PROSE = b"Return the value of the given name as a string if it is in the list, or None. " * 3


@pytest.mark.parametrize(
    ("options", "kind", "contexts"),
    [
        (["--fast"], "stack", "few"),
        ([], "stack", "many"),
        (["--best"], "stack", "all"),
        (["--fast", "--best"], "stack", "all"),
        (["--no-model"], "contexts", "many"),
        (["--no-model", "--fast"], "contexts", "few"),
        (["--no-model", "--best"], "contexts", "all"),
    ],
)
def test_presets(model, options, kind, contexts):
    Path("prose").write_bytes(PROSE)
    chosen = [] if "--no-model" in options else ["-m", model]
    line = call("compress", "prose", *chosen, *options).stdout
    assert line.endswith("no model\n") == (kind == "contexts")
    listed = document(call("list", "prose.nhc", "--json"))["archives"][0]
    assert listed["blocks"] == {kind: 1}
    assert [settings["contexts"] for settings in listed["settings"]] == [contexts]
    sample = samples.name(samples.choose(PROSE, MAX_BLOCK_BYTES))
    assert [settings["sample"] for settings in listed["settings"]] == [sample]
    assert f"1 {kind}" in call("list", "prose.nhc").stdout
    call("decompress", "prose.nhc", "-o", "copy", *chosen)
    assert Path("copy").read_bytes() == PROSE
    assert "OK" in call("test", "prose.nhc", *chosen).stdout


@pytest.mark.parametrize("order", [["-m", "MODEL", "--no-model"], ["--no-model", "-m", "MODEL"]])
def test_of_model_and_no_model_the_last_counts(model, order):
    Path("prose").write_bytes(PROSE)
    line = call("compress", "prose", *(model if word == "MODEL" else word for word in order)).stdout
    assert line.endswith("no model\n") == (order[-1] == "--no-model")


def test_list_counts_each_kind(tiny_model):
    with pytest.MonkeyPatch.context() as patch:
        cut_small(patch)
        packed = compress(os.urandom(2000) + bytes(2000) + skewed(3000), model=tiny_model)
        packed += compress(skewed(3000), preset=presets.without_model("fast"))
    Path("all.nhc").write_bytes(packed)
    expected = Counter(block.kind.name.lower() for block in frame_info(packed).blocks)
    assert document(call("list", "all.nhc", "--json"))["archives"][0]["blocks"] == dict(expected)
    assert set(expected) == {"raw", "lzma", "stack", "contexts"}


@pytest.mark.parametrize("command", ["compress", "decompress", "test"])
def test_python_in_place_of_a_compiled_core_is_told(monkeypatch, command):
    call("compress", "a.txt", "--fast")
    slow = StandIn()
    slow.name = "python"
    archive = [*(["-f"] if command != "test" else []), "a.txt" if command == "compress" else "a.txt.nhc"]
    monkeypatch.setattr("chunker.core.backend.backend", lambda: slow)
    monkeypatch.setattr("chunker.codec.stream.decode", lambda *_: TEXT)
    told = call(command, *archive, *(["--fast"] if command == "compress" else [])).stderr
    assert "a few hundred bytes a second" in cli_support.one_line(told.encode())
    assert call(command, *archive, "-q", *(["--fast"] if command == "compress" else [])).stderr == ""


def test_a_core_that_cannot_be_had_is_one_line(monkeypatch):
    backend.cache_clear()
    monkeypatch.setenv("CHUNKER_BACKEND", "steam")
    try:
        for args in (["compress", "a.txt"], ["--version"], ["bench", "a.txt"]):
            result = call(*args, code=2 if args == ["--version"] else 1)
            assert "CHUNKER_BACKEND=steam cannot be had" in cli_support.one_line(result.stderr.encode())
    finally:
        backend.cache_clear()


def test_a_file_with_a_models_name_is_in_nobodys_way(model):
    """An archive names its model by fingerprint, not by what lies about here."""
    Path("text").write_bytes(TEXT * 3)
    call("compress", "text", "-q")
    assert call("list", "text.nhc").stdout.splitlines()[1].split()[-2] == "text"
    call("decompress", "text.nhc", "-o", "copy", "-q")
    assert Path("copy").read_bytes() == TEXT * 3


def test_models(model, tiny_model):
    (described,) = document(call("models", model, "--json"))["models"]
    assert described["fingerprint"] == tiny_model.fingerprint.hex()
    assert described["levels"] == list(tiny_model.config.levels)
    assert described["parameters"] > 0
    assert described["bytes"] == os.path.getsize(model)
    assert tiny_model.fingerprint.hex()[:16] in call("models", model).stdout
    assert "no-such-model" in call("models", "no-such-model", code=1).stderr


def test_bench(model):
    Path("b.txt").write_bytes(TEXT[:50])
    args = ("bench", "a.txt", "b.txt", "-m", model, "--only", "gzip", "--only", "bzip2", "--repeat", "2")
    done = document(call(*args, "--json"))
    assert done["backend"] == backend().name
    assert [file["name"] for file in done["files"]] == ["a.txt", "b.txt"]
    for rows in (done["files"][0]["results"], done["total"]):
        name = Path(model).stem
        assert [row["compressor"] for row in rows] == [
            f"chunker --fast ({name})",
            f"chunker ({name})",
            f"chunker --best ({name})",
            "gzip -9",
            "bzip2 -9",
        ]
        for row in rows:
            assert row["round_trip"] is True
            assert row["bits_per_byte"] == round(8 * row["bytes_out"] / row["bytes_in"], 4)
            assert {"compress_seconds", "decompress_cpu_seconds", "compress_kb_per_second"} <= set(row)
    assert done["total"][0]["bytes_in"] == len(TEXT) + 50
    table = call(*args).stdout
    assert table.count("gzip -9") == 3
    assert "total: 270 bytes" in table


def test_bench_of_one_preset(model):
    args = ("bench", "a.txt", "--only", "none", "--preset", "fast", "--no-model", "--json")
    (row,) = document(call(*args))["files"][0]["results"]
    assert row["compressor"] == "chunker --fast (no model)"


def test_bench_finds_planted_lines():
    lines = [b"%d INFO node %d: request %d is answered in time" % (n, n % 7, n * n) for n in range(300)]
    log = b"\n".join(lines) + b"\n"
    data, planted = plant(log, 5)
    assert len(planted) == 5
    assert [line for n, line in enumerate(data.splitlines(), 1) if n not in planted] == lines
    assert plant(log, 5) == (data, planted) != plant(log, 5, seed=1)
    Path("log").write_bytes(log)
    (row,) = document(call("bench", "log", "--planted", "5", "--json"))["planted"]
    assert (row["lines"], row["planted"], row["found"]) == (305, 5, 5)
    assert row["planted_marked"] <= row["marked"]
    assert call("bench", "log", "--planted", "5").stdout.splitlines()[1].split()[:4] == [
        "log",
        "305",
        "5",
        "5",
    ]


def test_bench_names_what_is_missing(monkeypatch, model):
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setitem(sys.modules, "pyppmd", None)
    lines = call("bench", "a.txt", "-m", model, "--preset", "fast").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[2:6]] == [
        f"chunker --fast ({Path(model).stem})",
        "xz -9e",
        "ppmd, best order",
        "zpaq -m5",
    ]
    assert lines[4].endswith("missing: pip install pyppmd")
    assert lines[5].endswith("missing: zpaq is not on the PATH")


def test_bench_in_pieces(model):
    args = ("bench", "a.txt", "-m", model, "--only", "gzip", "--preset", "fast", "--piece", "100")
    whole = document(call(*args[:-2], "--json"))["files"][0]["results"]
    pieces = document(call(*args, "--json"))["files"][0]["results"]
    assert [row["bytes_in"] for row in pieces] == [len(TEXT)] * 2
    assert all(piece["bytes_out"] > alone["bytes_out"] for piece, alone in zip(pieces, whole, strict=True))
    assert "in pieces of 100 bytes" in call(*args).stdout


def test_bench_needs_files_that_stay(model):
    os.mkdir("folder")
    result = call("bench", "folder", "a.txt", "-m", model, "--only", "gzip", code=1)
    assert result.stderr.startswith("chunker: folder: is no regular file")
    assert "a.txt" in result.stdout


HERE = [group for group in peers.all_peers() if group[0].missing is None]


@pytest.mark.parametrize("group", HERE, ids=lambda group: group[0].label)
@pytest.mark.parametrize("content", [b"", TEXT * 20])
def test_peers_give_back_what_they_got(group, content, tmp_path):
    source = tmp_path / "-n"
    source.write_bytes(content)
    result = measure.best_of(group, lambda: [source], tmp_path, 1)
    assert result.error is None
    assert result.original == len(content)
    assert result.setting in {peer.setting for peer in group}


def test_failing_peer_is_told_and_not_fatal(tmp_path):
    def broken(source: Path, target: Path) -> None:
        raise peers.PeerError("gave up")

    def forgetful(source: Path, target: Path) -> None:
        target.write_bytes(b"")

    source = tmp_path / "a.txt"
    result = measure.best_of([peers.Peer("x", broken, broken)], lambda: [source], tmp_path, 1)
    assert result.error == "gave up"
    result = measure.best_of([peers.Peer("x", forgetful, forgetful)], lambda: [source], tmp_path, 1)
    assert result.error == "round trip failed"


def test_help_names_every_command():
    text = call("--help").stdout
    for name, line in COMMANDS.items():
        assert name in text
        assert line in text


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_are_what_the_table_says(name):
    command = chunker.get_command(click.Context(chunker), name)
    assert command is not None
    assert command.name == name
    assert command.get_short_help_str(200) == COMMANDS[name]
    assert call(name, "--help").stdout.startswith("Usage: chunker")


def test_version():
    assert call("--version").stdout == f"chunker {__version__} ({backend().name})\n"


def test_completion(monkeypatch):
    monkeypatch.setenv("COMP_WORDS", "chunker de")
    monkeypatch.setenv("COMP_CWORD", "1")
    monkeypatch.setenv("_CHUNKER_COMPLETE", "bash_complete")
    assert call().stdout == "plain,decompress\n"


def test_ratios_without_bytes():
    assert report.Figures(0, 5).to_json()["bits_per_byte"] is None
    assert report.Figures(0, 0).ratio is None
    line = report.Outcome("x", report.Figures(0, 5), 0.1).line()
    assert line == "x: 0 -> 5 bytes, ratio 0.000, - bits/byte, no model"


def test_json_has_no_infinities():
    with pytest.raises(ChunkerError, match="no JSON"):
        report.print_json({"bits_per_byte": float("nan")})


def test_table_for_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    report.print_table(["<name", "bytes"], [["[red]a[/]", "1"]], title="T")
    out = capsys.readouterr().out
    assert "[red]a[/]" in out, "file names are no markup"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["compress", "nothing"], "nothing: No such file or directory; check the name"),
        (["compress", ""], "'': No such file or directory; check the name"),
        (["compress", "folder"], "folder: is a directory; pack it with `tar"),
        (["decompress", "folder"], "folder: is a directory; name the files in it"),
        (["list", "folder"], "folder: is a directory; name the files in it"),
        (["models", "folder/"], "folder/: is a directory; name the model file in it"),
        (["models", "a.txt"], "a.txt: is not a model file"),
        (["bench", "nothing"], "nothing: No such file or directory; check the name"),
        (["bench", "folder"], "folder: is no regular file"),
        (["compress", "n" * 253], f"{'n' * 253}.nhc: File name too long; choose a shorter name with -o"),
        (["quantize", "text", "-o", "linked", "-f"], "choose another name"),
    ],
)
def test_messages_name_the_file_once_and_a_remedy(args, message):
    os.mkdir("folder")
    os.symlink(load_model("text").path, "linked")
    Path("n" * 253).write_bytes(b"content")
    result = call(*args, code=1)
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert result.stderr.count(args[1] or "''") <= 2, "once, and once as the target's"
    assert not [name for name in os.listdir() if name.endswith((".nhc", "part"))]


def test_an_empty_name_is_no_name():
    assert "an empty name" in call("compress", "a.txt", "-o", "", code=2).stderr


def test_the_model_is_named_where_an_archive_needs_it(model):
    Path("noise").write_bytes(os.urandom(512))
    for name, expected in (("noise", None), ("a.txt", load_model(model).name)):
        for args in (["compress", name], ["test", f"{name}.nhc"], ["decompress", f"{name}.nhc", "-o", "b"]):
            (found,) = document(call(*args, "-m", model, "--json"))["files"]
            assert found["model"] == expected
        os.unlink("b")
    assert call("test", "noise.nhc").stdout.endswith(", no model, OK\n")
    assert call("test", "a.txt.nhc", "-m", model).stdout.endswith(f", model {load_model(model).name}, OK\n")


@pytest.mark.skipif(os.name != "posix", reason="needs pipes with names")
def test_what_is_no_regular_file_is_not_replaced_and_takes_no_source_with_it(model):
    for name in ("pipe", "a.txt.nhc"):
        os.mkfifo(name)
    tries = [
        (["quantize", "text", "-o", "pipe", "-f"], "pipe is no regular file; choose another name"),
        (["compress", "a.txt", "-m", model, "--rm", "-o", os.devnull], "may get lost; leave out --rm"),
        (["compress", "a.txt", "-m", model, "-f"], "a.txt.nhc is no regular file; name it with -o"),
        (["compress", "a.txt", "-m", "./pipe", "-c"], "./pipe is no regular file, as a model has to be"),
    ]
    for args, message in tries:
        assert message in call(*args, code=1).stderr
    assert sorted(os.listdir()) == ["a.txt", "a.txt.nhc", "pipe"]
    assert all(stat.S_ISFIFO(os.stat(name).st_mode) for name in ("pipe", "a.txt.nhc"))
    with pytest.raises(UsageError, match="no regular file"):
        save_model("pipe", load_model("text").integer_tensors, load_model("text").config, {})


def test_the_average_of_models_is_a_model(model):
    told = call("average", model, model, "--weights", "1,2", "-o", "mean.safetensors").stdout
    mean = load_model("./mean.safetensors")
    assert mean.fingerprint.hex()[:16] in told
    fingerprint = load_model(model).fingerprint.hex()[:16]
    parents = [{"fingerprint": fingerprint, "weight": weight} for weight in (1.0, 2.0)]
    assert mean.summary == {"average_of": parents}
    call("compress", "a.txt", "-m", "./mean.safetensors")
    call("test", "a.txt.nhc", "-m", "./mean.safetensors")
    assert "replace it with --force" in call("average", model, model, "-o", "mean.safetensors", code=1).stderr
    wrong = call("average", model, model, "--weights", "1,x", "-o", "other.safetensors", code=1)
    assert "write them as 1,2" in wrong.stderr
