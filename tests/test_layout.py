"""Who may import whom, what the package must not contain, and what is installed."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cli_support import ROOT, environment
from documents import tracked

FOLDERS = (".build", ".ci", "chunker", "cli", "data", "tests")
HEAVY = {"numpy", "rich", "safetensors", "torch"}


# ---- modules and what they import ------------------------------------------------------------------


def modules() -> dict[str, Path]:
    """Dotted name -> file, of every module of the package; cli and data under the names they are installed
    as."""
    found = {}
    for folder, package in (
        (ROOT / "chunker", "chunker"),
        (ROOT / "cli", "chunker.cli"),
        (ROOT / "data", "chunker.data"),
    ):
        for path in sorted(folder.rglob("*.py")):  # follows no links, so each file comes once
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *parts)).removesuffix(".__init__")] = path
    return found


MODULES = modules()
TREES = {name: ast.parse(path.read_bytes(), str(path)) for name, path in MODULES.items()}


def names_in(node: ast.AST) -> Iterator[str]:
    """What an import statement names: for `from a import b` both a and a.b, as b may be a module."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = "." * node.level + (node.module or "")
        yield base
        yield from (f"{base}.{alias.name}" for alias in node.names)
    elif isinstance(node, ast.Call):
        called = ast.unparse(node.func).rpartition(".")[2]
        if called in ("import_module", "__import__") and node.args and isinstance(node.args[0], ast.Constant):
            yield str(node.args[0].value)


def imported(name: str) -> set[str]:
    """Everything that a module imports anywhere in it, also inside of functions and for types alone."""
    return {found for node in ast.walk(TREES[name]) for found in names_in(node)}


def modules_imported(name: str) -> set[str]:
    """The modules of the package that a module imports: of `from a import b` a.b if that is one, else a."""
    found: set[str] = set()
    for node in ast.walk(TREES[name]):
        if isinstance(node, ast.ImportFrom):
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= named & MODULES.keys()
            if not named <= MODULES.keys():
                found.add(str(node.module))
        else:
            found.update(names_in(node))
    return found & MODULES.keys()


IMPORTS = {name: modules_imported(name) for name in MODULES}


def imported_on_loading(name: str) -> set[str]:
    """What a module imports when it is loaded: not in functions, nor under `if TYPE_CHECKING`."""
    found: set[str] = set()
    rest: list[ast.AST] = [TREES[name]]
    while rest:
        node = rest.pop()
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            rest += node.orelse
            continue
        found.update(names_in(node))
        rest += ast.iter_child_nodes(node)
    return found


def inside(found: set[str], packages: set[str]) -> set[str]:
    """Those of the names that are one of the packages or in one."""
    return {name for name in found if any(name == top or name.startswith(f"{top}.") for top in packages)}


# Room -> the rooms below it, which alone it may import from, at any place.
LOWEST = {"chunker.errors", "chunker.version", "chunker.extras", "chunker.wholefile", "chunker.config"}
LOWEST |= {"chunker.forking"}  # which names modules above it, as text: those whose imports a fork waits for
CORE = LOWEST | {"chunker.core"}
MODELS = CORE | {"chunker.models"}
ROOMS = {
    "chunker.errors": set[str](),
    "chunker.version": set[str](),
    "chunker.extras": {"chunker.errors"},
    "chunker.wholefile": {"chunker.errors"},
    "chunker.forking": {"chunker.errors"},
    "chunker.config": {"chunker.errors"},
    "chunker.core": LOWEST,
    "chunker.models": CORE,
    "chunker.codec": MODELS,
    "chunker.records": MODELS | {"chunker.codec"},
    "chunker.benchmark": MODELS | {"chunker.codec", "chunker.records"},
    "chunker.data": {"chunker.errors"},
    "chunker.views": {"chunker.errors", "chunker.extras"},
    "chunker.learning": MODELS | {"chunker.views"},
    "chunker.classification": MODELS | {"chunker.learning", "chunker.views"},
    "chunker.reinforcement": MODELS | {"chunker.learning", "chunker.views"},
    "chunker.experiments": MODELS
    | {"chunker.codec", "chunker.classification", "chunker.data", "chunker.learning"}
    | {"chunker.reinforcement"},
}

# Module or package -> what neither it nor anything in it may import, at any place.
FORBIDDEN = {
    "chunker.core": {"torch"},
    "chunker.models": {"torch"},
    "chunker.codec": {"numpy", "torch"},
    "chunker.records": {"torch"},
    # Blocks and streams reach the core through its interface alone; the container knows neither blocks nor
    # models.
    "chunker.codec.blocks": {"chunker.core.native", "chunker.core.reference", "chunker.core.levels"},
    "chunker.codec.stream": {"chunker.core.native", "chunker.core.reference", "chunker.core.levels"},
    "chunker.codec.archive": {"chunker.codec.blocks", "chunker.models"},
    "chunker.codec.frames": {"chunker.codec.blocks", "chunker.models"},
    # The pool runs any tasks in threads; presets only decide how a content is cut and coded.
    "chunker.codec.pool": {"chunker.codec.blocks", "chunker.codec.frames", "chunker.codec.stream"},
    "chunker.codec.presets": {"chunker.codec.pool", "chunker.codec.stream", "chunker.codec.blocks"},
}


def test_every_module_is_in_a_room():
    rooms = inside(set(MODULES), {*ROOMS, "chunker.cli"})
    assert set(MODULES) - rooms == {"chunker", "chunker.__main__"}


@pytest.mark.parametrize(("room", "below"), ROOMS.items(), ids=ROOMS)
def test_rooms_import_from_rooms_below(room, below):
    members = inside(set(MODULES), {room})
    assert members
    for member in members:
        foreign = IMPORTS[member] - inside(IMPORTS[member], {room, *below})
        assert not foreign, f"{member} imports them"


@pytest.mark.parametrize(("part", "others"), FORBIDDEN.items(), ids=FORBIDDEN)
def test_what_a_part_must_not_know(part, others):
    members = inside(set(MODULES), {part})
    assert members
    for member in members:
        assert not inside(imported(member), others), f"{member} imports them"


def test_no_files_import_in_a_circle():
    """At any place: in functions and for types, too. A package's own `__init__` counts where it is named."""
    rest = {name: found - {name} for name, found in IMPORTS.items()}
    while rest:
        wanted = set[str]().union(*rest.values())
        kept = {
            name: found & rest.keys()
            for name, found in rest.items()
            if name in wanted and found & rest.keys()
        }
        assert kept != rest, "these import in a circle"
        rest = kept


def test_a_circle_is_found(monkeypatch):
    monkeypatch.setitem(IMPORTS, "chunker.errors", {"chunker.codec.stream"})
    with pytest.raises(AssertionError):
        test_no_files_import_in_a_circle()


@pytest.mark.parametrize("name", MODULES)
def test_imports_are_absolute(name):
    """So that the arrows above can be read from the names alone."""
    assert not [found for found in imported(name) if found.startswith(".")]


def test_an_import_anywhere_is_seen():
    """The arrows would hold in vain if imports in functions were overlooked."""
    assert "chunker.models.builtin_models" in imported("chunker.codec.finder")
    assert "chunker.models" not in imported_on_loading("chunker.codec.finder")
    assert "numpy" in imported_on_loading("chunker.core.levels")


@pytest.mark.parametrize("name", [name for name in MODULES if name.startswith("chunker.cli")])
def test_commands_load_nothing_heavy(name):
    assert not inside(imported_on_loading(name), HEAVY)


@pytest.mark.parametrize("name", ["chunker", "chunker.cli.main", "chunker.cli.nhc", "chunker.codec.stream"])
def test_what_is_quick_to_load(name):
    code = f"import sys, {name}; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), check=True, capture_output=True)
    loaded = set(done.stdout.decode().split())
    assert name in loaded
    assert not HEAVY & loaded


# ---- what a module must not contain ----------------------------------------------------------------


@pytest.mark.parametrize("name", MODULES)
def test_no_asserts(name):
    """`python -O` would drop them."""
    assert not [node.lineno for node in ast.walk(TREES[name]) if isinstance(node, ast.Assert)]


@pytest.mark.parametrize("name", MODULES)
def test_nothing_that_runs_code_from_a_file(name):
    assert not inside(imported(name), {"pickle", "marshal", "shelve", "dill", "cloudpickle"})
    used = {ast.unparse(node.func) for node in ast.walk(TREES[name]) if isinstance(node, ast.Call)}
    assert not used & {"torch.load", "eval", "exec"}


@pytest.mark.parametrize("name", MODULES)
def test_nothing_asks_a_clock_that_may_run_backwards(name):
    """Checkpoints and time left go by clocks that cannot be set."""
    used = {ast.unparse(node.func) for node in ast.walk(TREES[name]) if isinstance(node, ast.Call)}
    assert not used & {
        "time.time",
        "time.time_ns",
        "datetime.now",
        "datetime.datetime.now",
        "datetime.utcnow",
    }


@pytest.mark.parametrize("name", [name for name in MODULES if not name.startswith("chunker.cli")])
def test_only_commands_print(name):
    used = [node.func for node in ast.walk(TREES[name]) if isinstance(node, ast.Call)]
    assert not [func.lineno for func in used if isinstance(func, ast.Name) and func.id == "print"]


def test_every_module_says_what_it_is():
    files = [*MODULES.values(), *sorted((ROOT / "tests").glob("*.py"))]
    mute = [
        str(path)
        for path in files
        if path.stat().st_size and not ast.get_docstring(ast.parse(path.read_bytes()))
    ]
    assert not mute
    assert [path for path in files if not path.stat().st_size] == [ROOT / "cli" / "__init__.py"]


# ---- packaging -------------------------------------------------------------------------------------


def test_every_package_is_installed():
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    listed = re.search(r"^packages = (\[.*?\])", text, re.DOTALL | re.MULTILINE)
    assert listed is not None
    assert set(ast.literal_eval(listed[1])) == {
        name for name, path in MODULES.items() if path.name == "__init__.py"
    }


def test_documents_of_packages_are_installed(files):
    """Each beside what it describes; those of the C sources stay with these."""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    assert '"*" = ["*.md"]' in text
    assert '"chunker" = ["py.typed"], "chunker.codec" = ["samples/*"]' in text
    assert '"chunker.models" = ["*.safetensors", "*.tsv"]' in text
    packages = {path.parent for path in MODULES.values() if path.name == "__init__.py"}
    elsewhere = {ROOT, ROOT / "chunker" / "core" / "c", ROOT / "tests"}
    assert {(ROOT / name).parent for name in files if name.endswith(".md")} <= packages | elsewhere


@pytest.mark.parametrize("name", ["cli", "data"])
def test_folders_at_the_top_are_linked_into_the_package(name):
    link = ROOT / "chunker" / name
    assert link.is_symlink()
    assert os.readlink(link) == f"../{name}"
    assert f'"chunker.{name}" = "{name}"' in (ROOT / "pyproject.toml").read_text(encoding="utf-8")


# ---- the repository --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def files() -> tuple[str, ...]:
    """Every file that git tracks, or would add; links are files."""
    names = tracked()
    if names is None:
        pytest.skip("not a checkout of git")
    return names


def test_folders_at_the_top(files):
    assert {name.split("/")[0] for name in files if "/" in name} == set(FOLDERS)


# Written so that this file does not match itself.
MACHINE = re.compile(
    rb"(?<![\w.$}])/(?:home|mnt|media|opt|root|scratch|tmp|var|work|workspace|Users)/\w"
    rb"|\b[A-Z]:\\\\?Users\b"
    rb"|\blocal(?:)host\b"
    rb"|(?<![\w.])(?<!=\d:)(?:\d{1,3}\.){3}\d{1,3}(?![\w.])"  # but a version of a package, behind its epoch
    rb"|--(?:extra-)?index-url"
    rb"|https?://(?!(?:doi\.org|github\.com)/)"
)


def test_no_paths_or_hosts_of_a_machine(files):
    """Of the model files too, whose summary names sources. Samples are made of such paths."""
    found, others = {}, ("tests/golden/bad-", "chunker/codec/samples/")
    for name in files:
        path = ROOT / name
        if not path.is_symlink() and not name.startswith(others):
            found[name] = MACHINE.findall(path.read_bytes())
    assert {name: matches for name, matches in found.items() if matches} == {}


@pytest.mark.parametrize(
    "parts",
    [
        ("see ", "/home", "/ann"),
        ("= ", "/tmp", "/x"),
        ("C:", "\\Users"),
        ("10.0", ".0.1"),
        ("http:", "//a.example/"),
    ],
)
def test_paths_and_hosts_are_recognised(parts):
    """In parts, or this file would be found."""
    assert MACHINE.search("".join(parts).encode())
