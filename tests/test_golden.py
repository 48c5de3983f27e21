"""The archives in golden/: the good ones decode with every core,
the bad ones are refused for the right reason."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import make_golden
import pytest
from make_golden import CONTENTS, GOLDEN

from chunker.codec import files, frames
from chunker.codec.info import frame_info
from chunker.codec.stream import Decompressor, decompress
from chunker.core.backend import VARIABLE, Contexts, backend
from chunker.core.native import load
from chunker.errors import ArchiveError


@pytest.fixture(scope="module")
def encoded() -> dict[str, bytes]:
    """What the good archives would be today."""
    more = {"sampled": make_golden.sampled()} if "sampled" in NAMES else {}
    return make_golden.good() | more


@pytest.fixture(scope="module")
def archives() -> dict[str, bytes]:
    return {name: (GOLDEN / f"good-{name}.nhc").read_bytes() for name in CONTENTS}


# The reference takes minutes to read a sample; see the slow test below.
NAMES = [name for name in CONTENTS if name != "sampled" or backend().name != "python"]
BAD = sorted(path.stem.removeprefix("bad-") for path in GOLDEN.glob("bad-*.nhc"))


def test_the_files_are_all_there_and_as_described(archives):
    described = make_golden.bad(archives)
    assert sorted(described) == BAD
    for name, (data, _) in described.items():
        assert (GOLDEN / f"bad-{name}.nhc").read_bytes() == data, name
    assert len(list(GOLDEN.glob("*.nhc"))) == len(CONTENTS) + len(BAD)


@pytest.mark.parametrize("name", NAMES)
def test_good_archives_decode(name, archives):
    data, content, model = archives[name], CONTENTS[name], make_golden.model_for(name)
    for threads in (1, 5):
        assert decompress(data, model=model, workers=threads) == content
    with files.open(io.BytesIO(data), model=model) as file:
        assert file.read() == content
    info = frame_info(data)
    assert (info.bytes_in, info.bytes_out) == (len(content), len(data))


def test_good_archives_decode_byte_by_byte(archives):
    data = archives["full"]
    decompressor = Decompressor(model=make_golden.tiny_model())
    out = b"".join(decompressor.decompress(data[at : at + 1]) for at in range(len(data)))
    assert decompressor.eof
    assert out == CONTENTS["full"]


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"lzma", "full", "padded"}))
def test_encoding_gives_the_same_bytes(name, encoded, archives):
    """Without those that hold an lzma block: its bytes are liblzma's choice."""
    assert encoded[name] == archives[name]


def test_the_good_archives_hold_every_form_kind_and_set_of_contexts(archives):
    assert {data[3] & 15 for data in archives.values()} == {frames.FULL, *frames.Kind}
    blocks = [block for data in archives.values() for block in frame_info(data).blocks]
    assert {block.kind for block in blocks} == set(frames.Kind)
    for kind in (frames.Kind.CONTEXTS, frames.Kind.STACK):
        found = {block.settings.contexts for block in blocks if block.kind is kind and block.settings}
        assert found == set(Contexts)


def test_archives_without_net_need_no_model(archives):
    for name in ("contexts-few", "contexts-many", "contexts-all", "full-contexts", "zeros"):
        assert frame_info(archives[name]).fingerprints == ()
        assert decompress(archives[name]) == CONTENTS[name]


@pytest.fixture(scope="module")
def bad(archives) -> dict[str, tuple[bytes, type[ArchiveError]]]:
    return make_golden.bad(archives)


@pytest.mark.parametrize("name", BAD)
def test_bad_archives_are_refused(name, bad):
    data, error = bad[name]
    with pytest.raises(ArchiveError) as caught:
        decompress(data, model=make_golden.tiny_model())
    assert caught.type is error
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def check_with(backend: str, *names: str) -> None:
    """Every good archive, or those, in a process of its own."""
    script = [sys.executable, str(Path(make_golden.__file__)), "--check", *names]
    subprocess.run(script, check=True, env={**os.environ, VARIABLE: backend})


@pytest.mark.parametrize("backend", [found.name for found in load()])
def test_good_archives_decode_with_every_core(backend):
    check_with(backend)


def test_good_archives_decode_with_the_reference():
    check_with("python", *(name for name in make_golden.CONTENTS if name != "sampled"))


@pytest.mark.slow  # it reads two samples of 20 KB
def test_a_sample_is_the_same_for_the_reference():
    check_with("python", "sampled")
