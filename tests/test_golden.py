"""The archives in golden/: the good ones decode everywhere, the bad ones are refused for the right reason."""

from __future__ import annotations

import io
import os
import platform
import subprocess
import sys
from pathlib import Path

import make_golden
import pytest
from make_golden import CONTENTS, GOLDEN

from chunker.codec import files, frames
from chunker.codec.archive import read_info
from chunker.codec.stream import Decompressor, decompress
from chunker.errors import ArchiveError
from chunker.modelfile import Model


@pytest.fixture(scope="module")
def model() -> Model:
    return make_golden.tiny_model()


@pytest.fixture(scope="module")
def encoded(model) -> dict[str, bytes]:
    """What the good archives would be today."""
    return make_golden.good(model)


@pytest.fixture(scope="module")
def archives() -> dict[str, bytes]:
    return {name: (GOLDEN / f"good-{name}.nhc").read_bytes() for name in CONTENTS}


BAD = sorted(path.stem.removeprefix("bad-") for path in GOLDEN.glob("bad-*.nhc"))


def test_the_files_are_all_there_and_as_described(archives):
    described = make_golden.bad(archives)
    assert sorted(described) == BAD
    for name, (data, _) in described.items():
        assert (GOLDEN / f"bad-{name}.nhc").read_bytes() == data, name
    assert len(list(GOLDEN.glob("*.nhc"))) == len(CONTENTS) + len(BAD)


@pytest.mark.parametrize("name", CONTENTS)
def test_good_archives_decode(name, archives):
    data, content, model = archives[name], CONTENTS[name], make_golden.model_for(name)
    for threads in (1, 5):
        assert decompress(data, model=model, threads=threads) == content
    with files.open(io.BytesIO(data), model=model) as file:
        assert file.read() == content
    info = read_info(io.BytesIO(data))
    assert (info.bytes_in, info.bytes_out) == (len(content), len(data))


def test_good_archives_decode_byte_by_byte(model, archives):
    decompressor = Decompressor(model)
    out = b"".join(
        decompressor.decompress(archives["full"][at : at + 1]) for at in range(len(archives["full"]))
    )
    assert decompressor.eof
    assert out == CONTENTS["full"]


@pytest.mark.parametrize("name", sorted(set(CONTENTS) - {"lzma", "full", "stretch"}))
def test_encoding_gives_the_same_bytes(name, encoded, archives):
    """Without those that hold an lzma block: its bytes are liblzma's choice."""
    assert encoded[name] == archives[name]


def test_the_good_archives_hold_every_form_and_kind(archives):
    assert {data[3] & 15 for data in archives.values()} == set(frames.Form)
    kinds = {block.kind for data in archives.values() for block in read_info(io.BytesIO(data)).blocks}
    assert kinds == set(frames.Kind)


@pytest.fixture(scope="module")
def bad(archives) -> dict[str, tuple[bytes, type[ArchiveError]]]:
    return make_golden.bad(archives)


@pytest.mark.parametrize("name", BAD)
def test_bad_archives_are_refused(name, model, bad):
    data, error = bad[name]
    with pytest.raises(ArchiveError) as caught:
        decompress(data, model=model)
    assert caught.type is error
    assert str(caught.value)
    assert "\n" not in str(caught.value)


def kernels() -> list[str]:
    """The OpenBLAS kernels that this processor can run; other products ignore the setting."""
    if platform.machine().lower() not in ("x86_64", "amd64"):
        return [""]
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set()
    needs = {"Prescott": "pni", "Nehalem": "sse4_2", "Haswell": "avx2", "SkylakeX": "avx512vl"}
    return ["", *(name for name, flag in needs.items() if flag in flags)]


@pytest.mark.parametrize(("kernel", "threads"), [("", "2"), *((name, "1") for name in kernels() if name)])
def test_good_archives_decode_under_every_kernel(kernel, threads):
    setting = {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    if kernel:
        setting["OPENBLAS_CORETYPE"] = kernel
    script = str(Path(make_golden.__file__))
    subprocess.run([sys.executable, script, "--check"], check=True, env={**os.environ, **setting})
