"""Corpora: what is read from where, streams without gaps, weights, cold starts, exact positions."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chunker.errors import CheckpointError, CorpusError, UsageError
from chunker.learning.corpus import (
    Listed,
    Streams,
    Strip,
    TextFile,
    open_source,
    read_list,
    stack_lanes,
    validation_lanes,
    without_repeats,
)


def write(path, content):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def text(strip):
    return strip.read(0, strip.size).tobytes()


def counting(size, start=0):
    """Bytes whose values tell their position."""
    return bytes((start + i) % 251 for i in range(size))


# ---- lists and repeats -------------------------------------------------------------------------------


def test_a_list_names_what_to_read_and_how_much_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a", counting(100))
    write(tmp_path / "table.tsv", b"path\tkind\tweight\tbytes\tuse\na\tx\t2.5\t40\t\nb\t\t\t\tvalidate\n")
    train, validate = read_list(tmp_path / "table.tsv")
    assert train == [Listed(Path("a"), 2.5, 40)]
    assert validate == [Listed(Path("b"))]
    source = open_source(train[0], 0.25)
    assert (source.name, source.weight) == ("a", 2.5)
    assert text(source.training) == counting(30)
    assert text(source.validation) == counting(10, 30)


def test_of_a_folder_the_first_bytes_of_all_files_are_read(tmp_path):
    for name, size in (("a", 30), ("b", 30), ("c", 30)):
        write(tmp_path / "corpus" / name, counting(size))
    assert text(open_source(Listed(tmp_path / "corpus", limit=40)).training) == counting(30) + counting(10)


@pytest.mark.parametrize(
    "table",
    [
        b"a\n",
        b"path\tweight\na\t0\n",
        b"path\tweight\na\tmuch\n",
        b"path\tbytes\na\t-1\n",
        b"path\tuse\na\ttest\n",
        b"path\n\xff\n",
    ],
)
def test_a_list_that_is_none_is_refused(tmp_path, table):
    if table == b"a\n":
        table += b"b\n"
    with pytest.raises(CorpusError, match=r"table\.tsv"):
        read_list(write(tmp_path / "table.tsv", table))


def test_a_list_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="No such file"):
        read_list(tmp_path / "table.tsv")


def test_what_repeats_held_out_text_is_left_out(tmp_path):
    own, other = (
        np.random.default_rng(seed).integers(32, 127, 40_000).astype("u1").tobytes() for seed in (1, 2)
    )
    held_out = open_source(write(tmp_path / "held", other[:30_000]))
    folder = tmp_path / "corpus"
    write(folder / "a", own[:20_000] + other[5_000:20_000] + own[20_000:])
    write(folder / "b", own[:9_000])
    source = open_source(folder)
    left_out = without_repeats([source], [held_out])
    read = text(source.training)
    assert len(read) == 64_000 - left_out
    assert 10_000 < left_out <= 5 * 4096
    assert read.startswith(own[: 4 * 4096])
    assert read.endswith(own[:9_000])
    assert not any(other[at : at + 5_000] in read for at in range(5_000, 15_000))
    assert without_repeats([source], []) == 0


# ---- opening -----------------------------------------------------------------------------------------


def test_a_folder_is_read_in_sorted_order_without_hidden_files(tmp_path):
    for name in ("b/z.txt", "b/a.txt", "a.txt", "c.txt", ".git/config", "b/.hidden"):
        write(tmp_path / "corpus" / name, name.encode())
    source = open_source(tmp_path / "corpus")
    assert source.name == "corpus"
    assert [file.name for file in source.files] == ["a.txt", "b/a.txt", "b/z.txt", "c.txt"]
    assert text(source.training) == b"a.txtb/a.txtb/z.txtc.txt"


@pytest.mark.parametrize(("suffix", "module"), [(".xz", lzma), (".gz", gzip), (".bz2", bz2)])
def test_packed_files_are_read_as_what_is_in_them(tmp_path, suffix, module):
    path = write(tmp_path / f"text{suffix}", module.compress(b"inside"))
    assert text(open_source(path).training) == b"inside"


@pytest.mark.parametrize("suffix", [".xz", ".gz", ".bz2"])
@pytest.mark.parametrize("content", [b"not packed at all", None])
def test_a_damaged_packed_file_is_named(tmp_path, suffix, content):
    if content is None:  # cut in the middle
        module = {".xz": lzma, ".gz": gzip, ".bz2": bz2}[suffix]
        content = module.compress(os.urandom(2000))[:-100]
    path = write(tmp_path / f"text{suffix}", content)
    with pytest.raises(CorpusError, match=rf"text\{suffix}: is damaged"):
        open_source(path)


def test_a_large_file_is_mapped_and_reads_the_same(tmp_path):
    content = np.random.default_rng(0).integers(0, 256, (1 << 20) + 5, dtype=np.uint8).tobytes()
    source = open_source(write(tmp_path / "large", content), 0.25)
    assert source.files[0].contents is None
    assert text(source.training) + text(source.validation) == content


def test_a_mapped_file_that_vanishes_or_shrinks_is_an_error_of_one_line(tmp_path):
    path = write(tmp_path / "gone", bytes(1 << 20))
    source = open_source(path)
    path.unlink()
    with pytest.raises(CorpusError, match="gone: cannot be read any more"):
        source.training.read(0, 10)
    write(path, b"short")
    with pytest.raises(CorpusError, match="gone: became shorter"):
        source.training.read(0, 10)


@pytest.mark.parametrize(
    ("argument", "name", "weight"), [("a", "a", 1), ("a:2.5", "a", 2.5), ("b:3", "b:3", 1)]
)
def test_weights_follow_a_colon_unless_it_belongs_to_the_name(tmp_path, argument, name, weight):
    write(tmp_path / "a", b"text")
    write(tmp_path / "b:3", b"text")
    source = open_source(tmp_path / argument)
    assert (source.name, source.weight) == (name, weight)


@pytest.mark.parametrize("weight", ["0", "-1", "inf", "nan"])
def test_weights_are_positive_numbers(tmp_path, weight):
    write(tmp_path / "a", b"text")
    with pytest.raises(UsageError, match="weight"):
        open_source(f"{tmp_path / 'a'}:{weight}")


def test_what_holds_no_text_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="no such file"):
        open_source(tmp_path / "missing")
    with pytest.raises(CorpusError, match="holds no text"):
        open_source(tmp_path)
    with pytest.raises(CorpusError, match="holds no text"):
        open_source(write(tmp_path / "empty", b""))
    with pytest.raises(UsageError, match="share"):
        open_source(tmp_path, 1.5)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_pipe_is_refused_and_skipped_in_a_folder(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(CorpusError, match="neither a file nor a folder"):
        open_source(tmp_path / "pipe")
    write(tmp_path / "text", b"text")
    assert [file.name for file in open_source(tmp_path).files] == ["text"]


# ---- strips ------------------------------------------------------------------------------------------


@given(st.data())
def test_a_strip_reads_like_the_concatenation_of_its_stretches(data):
    stretches, whole = [], b""
    for size in data.draw(st.lists(st.integers(0, 20), max_size=6)):
        content = counting(size, len(whole))
        start = data.draw(st.integers(0, size))
        stop = data.draw(st.integers(start, size))
        stretches.append((TextFile("x", size, Path(), np.frombuffer(content, dtype=np.uint8)), start, stop))
        whole += content[start:stop]
    strip = Strip(stretches)
    assert strip.size == len(whole)
    start = data.draw(st.integers(0, len(whole)))
    stop = data.draw(st.integers(start, len(whole)))
    assert strip.read(start, stop).tobytes() == whole[start:stop]


def test_the_tail_of_every_file_is_held_back(tmp_path):
    write(tmp_path / "c" / "1", b"a" * 90 + b"A" * 10)
    write(tmp_path / "c" / "2", b"b" * 45 + b"B" * 5)
    source = open_source(tmp_path / "c", 0.1)
    assert text(source.training) == b"a" * 90 + b"b" * 45
    assert text(source.validation) == b"A" * 10 + b"B" * 5
    streams = Streams([source], batch=3, window=7, piece=20, seed=0)
    for _ in range(200):
        window, _ = streams.next()
        assert set(window.ravel().tolist()) <= set(b"ab")


# ---- streams -----------------------------------------------------------------------------------------


def test_streams_are_contiguous_between_cold_starts(tmp_path):
    source = open_source(write(tmp_path / "text", counting(251 * 40)))
    streams = Streams([source], batch=5, window=16, piece=64, seed=1)
    windows, cold = zip(*(streams.next() for _ in range(100)), strict=True)
    joined = np.concatenate(windows)
    jumps = (np.diff(joined.astype(int), axis=0) - 1) % 251 != 0
    boundary = np.zeros_like(jumps)
    boundary[15::16] = np.array(cold[1:])
    assert not (jumps & ~boundary).any()
    assert jumps.sum() > 0.9 * boundary.sum()  # by chance a jump may lead to the next value
    assert 0.15 < np.mean(cold) < 0.35  # window / piece = 1/4


def test_without_pieces_a_stream_goes_round_its_only_source(tmp_path):
    content = counting(100)
    streams = Streams([open_source(write(tmp_path / "text", content))], batch=2, window=250, piece=0, seed=0)
    window, cold = streams.next()
    assert not cold.any()
    for row in window.T:
        first = int(row[0])
        assert row.tobytes() == (content[first:] + content * 3)[:250]


def test_streams_start_evenly_spread(tmp_path):
    streams = Streams(
        [open_source(write(tmp_path / "text", counting(250)))], batch=10, window=1, piece=0, seed=3
    )
    starts = np.sort(streams.next()[0][0].astype(int))
    assert (np.diff(starts) == 25).all()


@pytest.mark.parametrize("piece", [0, 40])
def test_sources_are_read_by_weight_times_size(tmp_path, piece):
    heavy = open_source(f"{write(tmp_path / 'a', b'a' * 300)}:3")
    light = open_source(write(tmp_path / "b", b"b" * 900))
    streams = Streams([heavy, light], batch=40, window=20, piece=piece, seed=0)
    seen = np.concatenate([streams.next()[0] for _ in range(500)])
    assert np.mean(seen == ord("a")) == pytest.approx(0.5, abs=0.03)


def test_a_source_shorter_than_the_window_is_repeated(tmp_path):
    streams = Streams([open_source(write(tmp_path / "text", b"ab"))], batch=1, window=9, piece=3, seed=0)
    assert bytes(streams.next()[0][:, 0]) in (b"ababababa", b"babababab")


def test_the_seed_decides_everything(tmp_path):
    sources = [open_source(write(tmp_path / "text", counting(5000)))]
    runs = [[Streams(sources, 4, 16, 64, seed).next()[0].tobytes() for _ in range(1)] for seed in (7, 7, 8)]
    assert runs[0] == runs[1] != runs[2]


def test_a_position_is_exact_and_survives_json(tmp_path):
    import json

    sources = [open_source(write(tmp_path / str(i), counting(400, i))) for i in range(3)]
    streams = Streams(sources, batch=4, window=16, piece=50, seed=7)
    for _ in range(20):
        streams.next()
    position = json.loads(json.dumps(streams.position()))
    expected = [streams.next() for _ in range(20)]
    resumed = Streams(sources, batch=4, window=16, piece=50, seed=99)
    resumed.seek(position)
    for window, cold in expected:
        again, cold_again = resumed.next()
        assert (window == again).all()
        assert (cold == cold_again).all()


def test_a_position_fits_its_own_corpus_and_shape_only(tmp_path):
    path = write(tmp_path / "text", counting(5000))
    position = Streams([open_source(path)], 4, 16, 64, 0).position()
    with pytest.raises(
        CheckpointError, match="batch, window and piece must be as in the checkpoint: 4, 16 and 64"
    ):
        Streams([open_source(path)], 5, 16, 64, 0).seek(position)
    write(path, b"x" + counting(4999))
    with pytest.raises(CheckpointError, match="corpus is not the one"):
        Streams([open_source(path)], 4, 16, 64, 0).seek(position)


def test_another_validation_share_is_another_corpus(tmp_path):
    path = write(tmp_path / "text", counting(5000))
    position = Streams([open_source(path, 0.1)], 4, 16, 64, 0).position()
    with pytest.raises(CheckpointError, match="corpus is not the one"):
        Streams([open_source(path, 0.2)], 4, 16, 64, 0).seek(position)


def test_nothing_to_train_on_is_an_error(tmp_path):
    source = open_source(write(tmp_path / "text", b"text"), validation=1)
    with pytest.raises(CorpusError, match="--validation"):
        Streams([source], 1, 1, 0, 0)


# ---- validation --------------------------------------------------------------------------------------


def test_validation_lanes_come_from_tails_and_whole_texts(tmp_path):
    tail = open_source(write(tmp_path / "a", b"a" * 900 + b"A" * 100), 0.1)
    whole = open_source(write(tmp_path / "b", b"B" * 300))
    lanes = validation_lanes([tail], [whole], limit=10_000, lane=50)
    assert lanes is not None
    assert lanes.names == ("a", "b")
    assert lanes.shares == (0.25, 0.75)
    for symbol, index, count in ((b"A", 0, 2), (b"B", 1, 6)):
        mine = lanes.symbols[:, np.flatnonzero(lanes.owner == index)]
        assert mine.shape == (50, count)
        assert set(mine.ravel().tolist()) == set(symbol)


def test_validation_lanes_are_limited_distinct_and_spread(tmp_path):
    source = open_source(write(tmp_path / "a", bytes(i // 100 for i in range(10_000))), 1)
    lanes = validation_lanes([source], [], limit=1000, lane=100)
    assert lanes is not None
    assert lanes.symbols.shape == (100, 10)
    starts = lanes.symbols[0].tolist()
    assert starts[0] == 0
    assert starts[-1] == 99
    assert len(set(starts)) == 10


def test_names_of_validation_texts_are_told_apart(tmp_path):
    sources = [open_source(write(tmp_path / d / "README", b"x" * 50)) for d in "ab"]
    lanes = validation_lanes([], sources, limit=1000)
    assert lanes is not None
    assert lanes.names == ("README", "README (2)")
    assert lanes.by_name(np.array([50.0, 100.0])) == {"README": 1.0, "README (2)": 2.0}


def test_no_validation_text_gives_no_lanes(tmp_path):
    assert validation_lanes([open_source(write(tmp_path / "a", b"text"))], [], limit=100) is None


def test_lanes_of_different_lengths_are_padded():
    symbols, lengths = stack_lanes([np.array([1, 2, 3], np.uint8), np.array([4], np.uint8)])
    assert symbols.tolist() == [[1, 4], [2, 0], [3, 0]]
    assert lengths.tolist() == [3, 1]
