"""All documents: their Python runs, their commands and options exist, their links lead somewhere; and the
README's length, beginning and tree."""

from __future__ import annotations

import doctest
import re
import shlex
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path, PurePosixPath
from typing import Any

import click
import pytest
from cli_support import ROOT
from documents import README, blocks, documents, section, tracked

import chunker
from chunker.cli.main import COMMANDS
from chunker.cli.main import chunker as group
from chunker.cli.nhc import nhc

PAGES = documents()
PYTHON = {name: found for name, text in PAGES.items() if (found := blocks(text, "python"))}
SPEECH = "chunker/classification/RESULTS.md"  # its blocks read arrays and train for hours
README_LINES = 250
# What stands between a command and the next one on a line.
SEPARATORS = {"|", "&&", ";"}


# ---- Python ----------------------------------------------------------------------------------------


def needs(source: str) -> list[str]:
    """The optional packages that a block imports, itself or through chunker."""
    found = (
        {"torch"} if re.search(r"\btorch\b|chunker\.(learning|classification|experiments)", source) else set()
    )
    if re.search(r"\bsklearn\b|chunker\.classification", source):
        found.add("sklearn")
    if "chunker.reinforcement" in source:
        found |= {"torch", "gymnasium"}
    return sorted(found)


def lacks(source: str) -> list[str]:
    """What a block imports and is not installed, of packages whose blocks no other block needs."""
    imported = re.findall(r"^(?:import|from) (numcodecs|stable_baselines3|zarr)\b", source, re.MULTILINE)
    return [name for name in imported if find_spec(name) is None]


def run_blocks(name: str, sources: list[str]) -> int:
    """Run a document's blocks in one namespace, those with prompts as doctests;
    returns how many examples these had.

    What else the blocks print is not compared: figures of a training differ between machines.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    examples = 0
    for number, source in enumerate(sources, 1):
        title = f"{name}, block {number}"
        if not re.search(r"^>>> ", source, re.MULTILINE):
            exec(compile(source, title, "exec"), names)  # noqa: S102 - our own documents
            continue
        test = doctest.DocTestParser().get_doctest(source, {}, title, name, 0)
        test.globs = names
        told: list[str] = []
        runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
        result = runner.run(test, out=told.append, clear_globs=False)
        assert not result.failed, "".join(told)
        examples += result.attempted
    return examples


@pytest.mark.parametrize("name", [name for name in PYTHON if name != SPEECH])
def test_python_blocks_run(name, tmp_path, monkeypatch):
    for package in needs("\n".join(PYTHON[name])):
        pytest.importorskip(package)
    monkeypatch.chdir(tmp_path)
    run_blocks(name, [source for source in PYTHON[name] if not lacks(source)])


def write_speech(folder: Path) -> None:
    """The arrays of SPEECH in little: noise, in 660 cases of 10 digits,
    of 6 speakers each with takes 40 to 50."""
    import numpy as np

    folder.mkdir()
    rng, case = np.random.default_rng(0), np.arange(660)
    length = rng.integers(8, 12, 660)
    np.savez(
        folder / "fsdd_mfcc13.npz",
        mfcc=rng.normal(size=(length.sum(), 13)).astype(np.float32),
        length=length,
        digit=case % 10,
        speaker=case // 10 % 6,
        take=40 + case // 60,
    )
    np.savez(folder / "mnist1d_train.npz", x=rng.normal(size=(660, 40)), y=case % 10)


def test_python_blocks_on_speech_run(tmp_path, monkeypatch):
    """On few cases and for few steps: that they run, not what they find."""
    pytest.importorskip("torch")
    pytest.importorskip("sklearn")
    from chunker.classification.ctc import HistoryTranscriber
    from chunker.classification.estimators import HistoryClassifier

    classify, transcribe = HistoryClassifier.fit, HistoryTranscriber.fit

    def quick_classifier(self, X, y):
        return classify(self.set_params(steps=1, heads__0__steps=1), X[::97], y[::97])

    def quick_transcriber(self, X, y):
        return transcribe(self.set_params(steps=1, head__steps=1), X[:20], y[:20])

    monkeypatch.setattr(HistoryClassifier, "fit", quick_classifier)
    monkeypatch.setattr(HistoryTranscriber, "fit", quick_transcriber)
    monkeypatch.chdir(tmp_path)
    write_speech(tmp_path / "D")
    run_blocks(SPEECH, PYTHON[SPEECH])


def test_each_promise_names_tests_that_exist():
    """In SECURITY.md: `tests/FILE::TEST`, and after it further tests of that file; or a command."""
    rows = [line.split("|")[2] for line in PAGES["SECURITY.md"].splitlines() if line.startswith("|")]
    rows = [row for row in rows if row.strip("- ") not in ("", "shown by")]
    assert rows
    for row in rows:
        named = re.findall(r"`([^`]+)`", row)
        assert named, row
        source = ""
        for name in named:
            if name.startswith(("bash ", "python ")):
                assert (ROOT / name.split()[1]).exists()
                continue
            file, _, test = name.rpartition("::")
            source = (ROOT / file).read_text(encoding="utf-8") if file else source
            assert f"def {test}(" in source, name


def test_there_are_python_blocks():
    """Or the tests above would check nothing."""
    readme = README.name
    assert {readme, "chunker/codec/README.md", "chunker/core/README.md", SPEECH} <= set(PYTHON)
    assert not needs("\n".join(PYTHON[readme]))
    assert sum(source.count(">>> ") for found in PYTHON.values() for source in found) >= 20


@pytest.mark.parametrize("source", [">>> 1 + 1\n3\n", "1 / 0\n", "import chunker.no_such_module\n"])
def test_blocks_that_fail_are_found(source):
    with pytest.raises((AssertionError, ArithmeticError, ImportError)):
        run_blocks("page", ["x = 1\n", source])


def test_the_example_of_the_package_runs():
    told: list[str] = []
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder(recurse=False).find(chunker, "chunker"):
        runner.run(test, out=told.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(told)
    assert runner.tries


# ---- commands --------------------------------------------------------------------------------------


def shell_lines() -> Iterator[str]:
    """Every line of shell in the documents, with continued lines joined."""
    for text in PAGES.values():
        for block in blocks(text, "sh"):
            yield from block.replace("\\\n", " ").splitlines()


def calls(line: str) -> Iterator[list[str]]:
    """The single commands of a line of shell, each as its words."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in [*lexer, ";"]:
        if word not in SEPARATORS:
            words.append(word)
        elif words:
            yield words
            words = []


OURS = sorted(
    {tuple(call) for line in shell_lines() for call in calls(line) if call[0] in ("chunker", "nhc")}
)


def options_of(command: click.Command) -> set[str]:
    return {"-h", "--help"} | {
        option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
    }


def test_there_are_examples_of_every_command():
    """Or the test below would check nothing."""
    assert {call[1] for call in OURS if call[0] == "chunker" and call[1][0] != "-"} == set(COMMANDS)
    assert any(call[0] == "nhc" for call in OURS)


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_commands_and_options_exist(words):
    program, *rest = words
    command: click.Command | None = nhc
    if program == "chunker":
        command = group
        while isinstance(command, click.Group) and rest and not rest[0].startswith("-"):
            command = command.get_command(click.Context(command), rest.pop(0))
    assert command is not None
    known = options_of(command)
    for word in rest:
        if word.startswith("--"):
            assert word in known
        elif re.fullmatch(r"-[A-Za-z]+", word):
            assert all(f"-{letter}" in known for letter in word[1:]), word


# ---- links -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    """Relative ones, to what is in the repository; those to a heading, to a heading that is there."""
    names = tracked()
    for target, anchor in re.findall(r"\]\(([^)#\s]*)(#[^)\s]*)?\)", PAGES[name]):
        if "://" in target:
            continue
        path = (ROOT / name).parent / target if target else ROOT / name
        assert path.exists(), target
        inside = PurePosixPath(path.resolve().relative_to(ROOT.resolve()).as_posix())
        if names is not None:
            assert any(
                inside == PurePosixPath(one) or inside in PurePosixPath(one).parents for one in names
            ), target
        if anchor:
            heads = re.findall(r"^#+ (.*)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}
            assert anchor[1:] in slugs, target + anchor


def test_the_readme_leads_to_every_document():
    """In as many steps as it takes: nothing is written that nobody finds."""
    found, rest = set(), [README.name]
    while rest:
        name = rest.pop()
        found.add(name)
        for target in re.findall(r"\]\(([^)#\s]+\.md)\)", PAGES[name]):
            path = ((ROOT / name).parent / target).resolve()
            linked = path.relative_to(ROOT.resolve()).as_posix()
            if linked in PAGES and linked not in found:
                rest.append(linked)
    assert found == set(PAGES)


# ---- the README ------------------------------------------------------------------------------------


def test_the_readme_is_read_in_minutes():
    assert len(PAGES[README.name].splitlines()) <= README_LINES


def test_the_beginning_is_what_a_stranger_needs():
    """What it is, then the two commands; `.ci/run` executes both."""
    head = PAGES[README.name].split("\n## ")[0]
    assert [block.strip() for block in blocks(head, "sh")] == [
        "pip install . && chunker compress README.md",
        'pip install ".[test]" && pytest',
    ]


def tree() -> dict[str, str]:
    """Folder, ending in a slash -> purpose, of every line of the README's tree."""
    (block,) = blocks(section(PAGES[README.name], "What is where"), "text")
    found: dict[str, str] = {}
    folders: list[str] = []
    for line in block.splitlines():
        entry = re.fullmatch(r"((?:  )*)(\S+/)(?: +(\S.*))?", line)
        assert entry is not None, line
        depth = len(entry[1]) // 2
        assert depth <= len(folders), line
        folders[depth:] = [entry[2]]
        path = "".join(folders)
        assert path not in found, line
        found[path] = entry[3] or ""
    return found


def test_the_tree_names_the_folders_that_exist_and_no_others():
    names = tracked()
    if names is None:
        pytest.skip("not a checkout of git")
    there = {f"{folder}/" for name in names for folder in PurePosixPath(name).parents} - {"./"}
    assert set(tree()) == there


def test_the_tree_gives_every_folder_a_purpose():
    assert [folder for folder, purpose in tree().items() if not purpose] == []
