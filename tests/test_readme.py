"""The README and the model card: their examples run, and their commands and options exist."""

from __future__ import annotations

import doctest
import re
import shlex
from collections.abc import Iterator

import click
import pytest
from cli_support import ROOT

import chunker
from chunker.cli.main import COMMANDS
from chunker.cli.main import chunker as group
from chunker.cli.nhc import nhc

README = ROOT / "README.md"
PAGES = (README, ROOT / "chunker" / "models" / "MODEL_CARD.md", ROOT / "chunker" / "core" / "FORMAT.md")
LINES_IN = {path: path.read_text(encoding="utf-8") for path in PAGES}
# What stands between a command and the next one on a line.
SEPARATORS = {"|", "&&", ";"}


def blocks(text: str, language: str) -> list[str]:
    """The contents of the fenced blocks in that language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def shell_lines() -> Iterator[str]:
    """Every line of shell on the pages, with continued lines joined."""
    for text in LINES_IN.values():
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
    """Or the tests below would check nothing."""
    assert {call[1] for call in OURS if call[0] == "chunker"} == set(COMMANDS)
    assert any(call[0] == "nhc" for call in OURS)
    assert len(blocks(LINES_IN[README], "python")) >= 5


def test_python_examples_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = "\n".join(blocks(LINES_IN[README], "python"))
    test = doctest.DocTestParser().get_doctest(source, {}, README.name, README.name, 0)
    told: list[str] = []
    result = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=told.append)
    assert not result.failed, "".join(told)
    assert result.attempted >= 15


def test_the_example_of_the_package_runs():
    told: list[str] = []
    runner = doctest.DocTestRunner()
    for test in doctest.DocTestFinder(recurse=False).find(chunker, "chunker"):
        runner.run(test, out=told.append)
    assert runner.summarize(verbose=False).failed == 0, "".join(told)
    assert runner.tries


@pytest.mark.parametrize("words", OURS, ids=" ".join)
def test_commands_and_options_exist(words):
    program, *rest = words
    command: click.Command | None = nhc
    if program == "chunker":
        command = group.get_command(click.Context(group), rest.pop(0))
        if isinstance(command, click.Group):
            command = command.get_command(click.Context(command), rest.pop(0))
    assert command is not None
    known = options_of(command)
    for word in rest:
        if word.startswith("--"):
            assert word in known
        elif re.fullmatch(r"-[A-Za-z]+", word):
            assert all(f"-{letter}" in known for letter in word[1:]), word


def test_links_lead_somewhere():
    for path, text in LINES_IN.items():
        for target in re.findall(r"\]\(([^)#]+)\)", text):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name}: {target}"


def test_the_beginning_is_what_a_stranger_needs():
    """One sentence, then the two commands; `.ci/run` executes both."""
    head = LINES_IN[README].split("\n## ")[0]
    assert [block.strip() for block in blocks(head, "sh")] == [
        "pip install . && chunker compress README.md",
        'pip install ".[test]" && pytest',
    ]
