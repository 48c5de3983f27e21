"""A process that forks while its threads code: children code, and leave alone what is their parent's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from cli_support import ROOT, environment

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="needs os.fork")

TEXT = b"Forked off, a child has no thread but the one that forked. " * 40

# Each script runs in a process of its own. A child that hangs is ended by its alarm; `ended` says how.
BEGIN = """
import os, signal, sys, threading, chunker
from chunker.errors import UsageError
TEXT = sys.argv[1].encode()

def ended(child):
    pid = os.fork()
    if pid == 0:
        signal.alarm(120)
        child()
        os._exit(7)
    return os.waitpid(pid, 0)[1]

def refused(action):
    try:
        action()
    except UsageError as error:
        os._exit(0 if "before the process forked" in str(error) else 8)

def right():
    os._exit(0 if chunker.decompress(chunker.compress(TEXT)) == TEXT else 9)
"""
BUSY = """
stop, begun = threading.Event(), threading.Event()
def work():
    while not stop.is_set():
        begun.set()
        assert chunker.decompress(chunker.compress(TEXT, preset="fast")) == TEXT
threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
for thread in threads:
    thread.start()
begun.wait()
"""
SCRIPTS = {
    "a child of a process whose threads code": BUSY
    + """
assert [ended(right) for _ in range(3)] == [0] * 3
stop.set()
""",
    "a child of a process that has coded, as of a server that forks its workers": """
archive = chunker.compress(TEXT)
model = chunker.load_model()
def serve():
    good = chunker.decompress(archive, model=model) == TEXT and chunker.compress(TEXT, model=model) == archive
    os._exit(0 if good else 9)
assert [ended(serve) for _ in range(3)] == [0] * 3
""",
    "a compressor under way": """
large = bytes(20 << 20)
compressor = chunker.Compressor(preset="fast")
parts = [compressor.compress(large)]
assert ended(lambda: refused(lambda: compressor.compress(TEXT))) == 0
assert ended(lambda: refused(compressor.flush)) == 0
assert ended(lambda: (compressor.close(), os._exit(0))) == 0
parts.append(compressor.flush())
assert chunker.decompress(b"".join(parts)) == large
""",
    "a decompressor under way": """
archive = chunker.compress(TEXT)
decompressor = chunker.Decompressor()
first = decompressor.decompress(archive, max_length=9)
assert ended(lambda: refused(lambda: decompressor.decompress(b""))) == 0
assert ended(lambda: (decompressor.close(), os._exit(0))) == 0
assert first + decompressor.decompress(b"") == TEXT
""",
    "an archive that is written": """
large = bytes(20 << 20)
file = chunker.open("a.nhc", "wb", preset="fast")
file.write(large)
file.flush()
assert ended(lambda: refused(lambda: file.write(TEXT))) == 0
assert ended(lambda: (file.close(), os._exit(0))) == 0
if os.fork() == 0:
    signal.alarm(120)
    del file
    sys.exit()
os.wait()
file.write(TEXT)
file.close()
assert chunker.open("a.nhc").read() == large + TEXT
""",
    "an archive that is read": """
large = bytes(300_000) + TEXT
with open("a.nhc", "wb") as archive:
    archive.write(chunker.compress(large))
file = chunker.open("a.nhc")
assert file.read(9) == large[:9]
assert ended(lambda: refused(file.read)) == 0
assert ended(lambda: refused(lambda: file.seek(200_000))) == 0
assert ended(lambda: (file.close(), os._exit(0))) == 0
assert file.read() == large[9:]
""",
}


def run(script: str, folder: Path) -> None:
    arguments = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", BEGIN + script, TEXT.decode()]
    done = subprocess.run(
        arguments, cwd=folder, env={**environment(), "PYTHONWARNINGS": ""}, capture_output=True, check=False,
        timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()


@pytest.mark.parametrize("what", SCRIPTS)
def test_after_a_fork(what, tmp_path):
    run(SCRIPTS[what], tmp_path)


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_of_the_standard_library(method, tmp_path):
    """Whichever way they begin, while threads of this one code."""
    main = tmp_path / "main.py"
    main.write_text(
        f"""
import concurrent.futures, multiprocessing, sys, threading, chunker
TEXT = {TEXT!r}
PARTS = [TEXT[:n] for n in (0, 10, 500, 2000)]
if __name__ == "__main__":
    {"    ".join(BUSY.strip().splitlines(keepends=True))}
    context = multiprocessing.get_context({method!r})
    with context.Pool(2) as pool:
        archives = pool.map(chunker.compress, PARTS)
    assert [chunker.decompress(each) for each in archives] == PARTS
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        assert [*pool.map(chunker.decompress, archives)] == PARTS
    stop.set()
"""
    )
    arguments = [sys.executable, "-W", "ignore::DeprecationWarning", str(main)]
    environment_ = {**environment(), "PYTHONWARNINGS": ""}
    done = subprocess.run(arguments, env=environment_, capture_output=True, check=False, timeout=600)
    assert done.returncode == 0, done.stderr.decode()
    assert str(ROOT) in environment_["PYTHONPATH"]
