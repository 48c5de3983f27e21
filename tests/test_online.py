"""All levels learn while they code: the right gradients, the same bits everywhere, and worth it."""

from __future__ import annotations

import gc
import hashlib
import os
import subprocess
import sys
import threading
from concurrent.futures import Executor, Future

import numpy as np
import pytest
from test_golden import kernels
from test_readout import bits
from test_twin import CELLS, NGRAMS, random_tensors, some_symbols

from chunker.coding import exact, online, readout
from chunker.coding.blocks import to_steps
from chunker.coding.entropy import Decoder, Encoder
from chunker.coding.exact import MANTISSA
from chunker.coding.freeze import freeze, thaw
from chunker.coding.online import WINDOW
from chunker.coding.twin import IntegerStack
from chunker.config import GateRule, StackConfig

MODES = ("joint", "faithful")
KINDS = (online.LearningMatrix, online.LearningTable)


def stack(seed=0, boost=1.0, **fields):
    config = StackConfig(**{"levels": (12, 10, 9), "symbols": 11, "ngrams": NGRAMS, **fields})
    tensors = random_tensors(config, seed)
    for name in tensors:
        if name != "thresholds_bits":
            tensors[name] *= np.float32(boost)
    return IntegerStack(config, freeze(tensors))


def run(stack, symbols, learn="all", keep=None):
    """All frequencies, (T, B, V), of symbols (T, B); `keep`: {step: lanes}."""
    session = stack.session(symbols.shape[1], learn)
    rows = np.zeros((*symbols.shape, stack.symbols))
    for t, row in enumerate(symbols):
        if keep and t in keep:
            session.keep(keep[t])
        rows[t, : session.lanes] = session.frequencies()
        session.update(row[: session.lanes])
    session.close()
    return rows


class Inline(Executor):
    """Does a job at once, in the thread that asks for it."""

    def submit(self, fn, /, *args, **kwargs):
        future: Future = Future()
        future.set_result(fn(*args, **kwargs))
        return future


class Late(Executor):
    """Does a job only when its result is asked for."""

    def submit(self, fn, /, *args, **kwargs):
        class Lazy(Future):
            def result(self, timeout=None):
                return fn(*args, **kwargs)

        return Lazy()


# ---- gradients --------------------------------------------------------------------------------------


def slopes_of_window(monkeypatch, stack, symbols, window):
    """{(level, name): (rows, slopes)} that the job of that window arrives at."""
    seen = {}
    monkeypatch.setattr(online, "worker", Inline)
    monkeypatch.setattr(readout, "RATE", np.float32(0))
    session = stack.session(symbols.shape[1], "all")
    names = {}
    for index, level in enumerate(session._learner._levels):
        for name, tensor in (level.matrices | level.tables).items():
            names[id(tensor)] = index, name
    real, real_learn = readout.adagrad, {kind: kind.learn for kind in KINDS}
    rows: dict = {}
    learning: list = []

    def adagrad(slope, *rest):
        seen[learning[-1]] = slope.copy()
        return real(slope, *rest)

    def learn(self, which, *rest):
        learning.append(names[id(self)])
        rows[learning[-1]] = which if isinstance(self, online.LearningTable) else None
        return real_learn[type(self)](self, which, *rest)

    monkeypatch.setattr(online, "adagrad", adagrad)
    for kind in KINDS:
        monkeypatch.setattr(kind, "learn", learn)
    for row in symbols[: (window + 1) * WINDOW]:
        seen.clear()
        session.update(row)
    return {key: (rows[key], slope) for key, slope in seen.items()}


@pytest.mark.parametrize("ngrams", [None, NGRAMS])
@pytest.mark.parametrize("window", [0, 1])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cell", CELLS)
def test_gradients_are_those_of_the_float_stack(monkeypatch, cell, mode, window, ngrams):
    torch = pytest.importorskip("torch")
    from chunker.learning.convert import build_stack

    gate = GateRule("surprise", 2.5)
    config = StackConfig((12, 10, 9), cell=cell, mode=mode, symbols=11, gate=gate, ngrams=ngrams)
    monkeypatch.setattr(online, "REACH", np.float32(1000))
    frozen = freeze(random_tensors(config, seed=3))
    symbols = some_symbols(2 * WINDOW, 6)
    found = slopes_of_window(monkeypatch, IntegerStack(config, frozen), symbols, window)

    net, flat = build_stack(config, thaw(frozen)), torch.from_numpy(symbols)
    net.requires_grad_(True)
    first = window * WINDOW  # what is predicted in this window; read is one symbol earlier, too
    state, read = net.start(6), flat[: first + WINDOW]
    if window:
        state, read = net(flat[: first - 1], state).state, flat[first - 1 : first + WINDOW]
    output = net(read, state)
    losses = []
    for logits, events in zip(output.level_logits, output.events, strict=True):
        if mode == "joint":
            logits, events = output.level_logits[-1], output.events[0]
        nats = torch.nn.functional.cross_entropy(
            logits[-WINDOW:][events[-WINDOW:]], read[-WINDOW:][events[-WINDOW:]], reduction="sum"
        )
        losses.append(nats / (WINDOW * 6))
    (losses[0] if mode == "joint" else sum(losses)).backward()

    for (index, name), (rows, slope) in found.items():
        true = getattr(net.levels[index], {"shift": "bias"}.get(name, name)).grad.numpy()
        if rows is not None:
            true = np.atleast_2d(true)
            assert np.abs(np.delete(true, rows, axis=0)).sum() == 0
            true = true[rows]
        assert np.linalg.norm(true - slope) <= 0.03 * np.linalg.norm(true), (index, name)
    per_level = {"recurrent", "symbol_input", "shift"} | ({"candidate_bias"} if cell == "gru" else set())
    upper = per_level | {"time_input", "readout"} | ({"below"} if mode == "joint" else {"readout_bias"})
    lowest = per_level | ({"below"} if ngrams else set())
    assert set(found) == {(0, n) for n in lowest} | {(i, n) for i in (1, 2) for n in upper}


# ---- worth it ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cell", CELLS)
def test_learning_pays(monkeypatch, cell, mode):
    """On a text that repeats, after a beginning without anything learnt."""
    monkeypatch.setattr(online, "RATE", 1e-2)  # small nets may
    symbols = np.tile(some_symbols(7, 1, seed=5), (80, 4))
    net = stack(cell=cell, mode=mode, ngrams=None)
    static, readout_only, learnt = (run(net, symbols, learn) for learn in ("nothing", "readout", "all"))
    assert (learnt >= 0).all()
    assert (learnt == np.rint(learnt)).all()
    assert (learnt.sum(2) == 2**24 - 11).all()
    begin = slice(0, WINDOW)
    assert np.abs(bits(static, symbols) - bits(learnt, symbols))[begin].max() < 0.3
    costs = [bits(rows, symbols)[400:].mean() for rows in (static, readout_only, learnt)]
    assert costs[2] < 0.9 * costs[1] < 0.9 * costs[0]


def test_a_bool_still_asks_for_the_readout():
    symbols = some_symbols(50, 2)
    assert np.array_equal(run(stack(), symbols, True), run(stack(), symbols, "readout"))
    assert np.array_equal(run(stack(), symbols, False), run(stack(), symbols, "nothing"))


def test_sessions_do_not_share_what_they_learn():
    net, symbols = stack(), some_symbols(100, 3)
    static = run(net, symbols, "nothing")
    first = run(net, symbols)
    assert np.array_equal(first, run(net, symbols))
    assert np.array_equal(static, run(net, symbols, "nothing"))
    assert not np.array_equal(static, first)


@pytest.mark.parametrize("n_bytes", [1, 500, 4003])
def test_round_trip(tiny_model, n_bytes):
    data = (b"to be or not to be, that is the question; " * 100)[:n_bytes]
    steps, last = to_steps(data, min(7, n_bytes))
    encoder, session = Encoder(), tiny_model.integer_stack().session(steps.shape[1], "all")
    for t, symbols in enumerate(steps):
        if t == len(steps) - 1:
            session.keep(last)
        encoder.encode(symbols[: session.lanes], session.frequencies())
        session.update(symbols[: session.lanes])
    session.close()
    decoder, session = Decoder(encoder.finish()), tiny_model.integer_stack().session(steps.shape[1], "all")
    for t, symbols in enumerate(steps):
        if t == len(steps) - 1:
            session.keep(last)
        decoded = decoder.decode(session.frequencies())
        assert np.array_equal(decoded, symbols[: session.lanes])
        session.update(decoded)
    session.close()


# ---- surprise ---------------------------------------------------------------------------------------


def test_only_lanes_that_gathered_surprise_are_propagated_back(monkeypatch):
    chosen = []
    real = online.Tape.only

    def only(self, lanes):
        chosen.append(lanes)
        return real(self, lanes)

    monkeypatch.setattr(online, "GATHERED", 70.0)
    monkeypatch.setattr(online.Tape, "only", only)
    symbols = some_symbols(10 * WINDOW, 6)
    cost = bits(run(stack(), symbols), symbols).reshape(10, WINDOW, 6).sum(1)
    gathered, expected = np.zeros(6), []
    for window in cost:
        gathered += window
        lanes = np.flatnonzero(gathered >= 70)
        gathered[lanes] = 0
        expected += [lanes] if len(lanes) else []
    # the last window's job may or may not have begun when the session was closed
    assert [x.tolist() for x in chosen[:9]] == [x.tolist() for x in expected[:9]]
    assert {len(x) for x in expected[:9]} > {6}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cell", CELLS)
def test_a_lane_that_is_left_out_counts_as_one_without_errors(monkeypatch, cell, mode):
    symbols = some_symbols(WINDOW, 4)
    net, slopes = stack(cell=cell, mode=mode), []
    real = online.Tape.only
    for lanes in ([1, 3], [0, 2], [0, 1, 2, 3]):
        with monkeypatch.context() as patch:
            patch.setattr(online.Tape, "only", lambda self, _, lanes=lanes: real(self, np.array(lanes)))
            slopes.append(slopes_of_window(patch, net, symbols, 0)[0, "recurrent"][1])
    assert np.allclose(slopes[0] + slopes[1], slopes[2], atol=1e-6)
    assert np.abs(slopes[0]).max() > 1e-4


# ---- exact ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cell", CELLS)
def test_integers_instead_of_floats_give_the_same(monkeypatch, cell, mode):
    net, symbols = stack(cell=cell, mode=mode), some_symbols(100, 5)
    fast = run(net, symbols)
    monkeypatch.setattr(exact, "check_machine", lambda: False)
    assert np.array_equal(fast, run(net, symbols))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cell", CELLS)
def test_the_order_of_summation_cannot_matter(monkeypatch, cell, mode):
    net, symbols = stack(cell=cell, mode=mode), some_symbols(100, 5)
    forward = run(net, symbols)

    def backwards(a, b, kind):
        return np.cumsum(a.T[::-1, :, None] * b[::-1, None, :], axis=0, dtype=kind)[-1]

    def product(h, weights, out):
        out[...] = backwards(h, weights, np.float32)
        return out

    monkeypatch.setattr(exact, "product", product)
    monkeypatch.setattr(exact, "wide_product", lambda a, b: backwards(a, b, np.float64))
    assert np.array_equal(forward, run(net, symbols))


@pytest.mark.parametrize("boost", [1.0, 40.0])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cell", CELLS)
def test_every_product_stays_within_the_mantissa(monkeypatch, cell, mode, boost):
    """On weights and rates that drive errors and weights to their bounds."""
    narrow, wide = [], []
    real, real_wide = exact.product, exact.wide_product

    def product(h, weights, out):
        assert (h == np.rint(h)).all()
        assert (weights == np.rint(weights)).all()
        narrow.append((np.abs(h.astype(np.float64)) @ np.abs(weights.astype(np.float64))).max())
        assert narrow[-1] <= MANTISSA
        return real(h, weights, out)

    def wide_product(a, b):
        assert (a == np.rint(a)).all()
        assert (b == np.rint(b)).all()
        wide.append((np.abs(a) @ np.abs(b)).max(initial=0))
        assert wide[-1] < 2**53
        return real_wide(a, b)

    monkeypatch.setattr(exact, "product", product)
    monkeypatch.setattr(exact, "wide_product", wide_product)
    monkeypatch.setattr(online, "RATE", 50.0)
    rows = run(stack(levels=(200, 60), cell=cell, mode=mode, boost=boost), some_symbols(8 * WINDOW, 3))
    assert (rows.sum(2) == 2**24 - 11).all()
    assert max(narrow) > MANTISSA / 100
    assert max(wide) > 2**53 / 2**14


@pytest.mark.parametrize("hidden", [1, 7, 352, 1000, 7000])
@pytest.mark.parametrize("rows", [16, 16 * 4096])
def test_grids_keep_the_bound_at_any_size(hidden, rows):
    """With every operand at its largest."""
    frozen = exact.Matrix.build(
        np.full((hidden, 3), 127, np.int8), np.array([1e-4, 1, 0.3], np.float32), np.float32(256)
    )
    matrix = online.LearningMatrix(frozen, 0.1, 8, rows)
    activations = int(matrix.matrix.activations)
    assert activations * int(np.abs(matrix.matrix.integers).sum(0).max()) <= MANTISSA
    operand = np.empty((1, 3))
    matrix.operand(np.full((1, 3), 8, np.float32), operand)
    assert 3 * int(operand.max()) * online.CAP < 2**53
    assert rows * int(operand.max()) * activations < 2**53
    assert operand.max() > 2**20


def test_a_column_that_would_not_fit_stays():
    frozen = exact.Matrix.build(np.full((50, 2), 100, np.int8), np.ones(2, np.float32), np.float32(1))
    matrix = online.LearningMatrix(frozen, 1.0, 8, 16)
    matrix._limit = np.float32(np.abs(matrix.matrix.integers).sum(0).max() + 1)
    before = matrix.matrix.integers
    operand = np.zeros((16, 2))
    matrix.operand(np.tile(np.array([-1, 1], np.float32), (16, 1)), operand)
    for _ in range(100):
        after = matrix.learn(np.ones((16, 50), np.float32), operand, 16).integers
    assert (after[:, 0] <= before[:, 0] + 1).all()
    assert (after[:, 1] < before[:, 1]).all()
    assert np.abs(after).sum(0).max() <= matrix._limit


# ---- threads ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("worker", [Inline, Late])
def test_when_a_job_is_done_changes_nothing(monkeypatch, worker, mode):
    net, symbols = stack(mode=mode), some_symbols(150, 5)
    keep = {70: 3, 121: 2}
    threaded = run(net, symbols, keep=keep)
    monkeypatch.setattr(online, "worker", worker)
    assert np.array_equal(threaded, run(net, symbols, keep=keep))


def test_dropped_lanes_change_nothing_before_the_next_step():
    net, symbols = stack(), some_symbols(3 * WINDOW + 5, 5)
    whole, cut = run(net, symbols), run(net, symbols, keep={3 * WINDOW: 2})
    assert np.array_equal(whole[:, :2], cut[:, :2])


def test_errors_of_a_job_reach_the_caller(monkeypatch):
    def fail(self, lanes):
        raise MemoryError("no room")

    monkeypatch.setattr(online.Tape, "only", fail)
    with pytest.raises(MemoryError, match="no room"):
        run(stack(), some_symbols(3 * WINDOW, 2))


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("chunker-learning")]


def test_closing_ends_the_thread():
    session = stack().session(2, "all")
    for row in some_symbols(3 * WINDOW, 2):
        session.update(row)
    assert threads()
    session.close()
    session.close()
    assert not threads()
    for learn in ("nothing", "readout"):
        stack().session(2, learn).close()


def test_a_session_that_nobody_closed_does_not_leave_its_thread():
    session = stack().session(2, "all")
    for row in some_symbols(3 * WINDOW, 2):
        session.update(row)
    running = threads()
    del session
    gc.collect()
    for thread in running:
        thread.join(5)
    assert not threads()


def digest():
    """Of the frequencies of a stack wide enough for every kernel's blocks and threads."""
    net = stack(levels=(130, 70), symbols=40)
    rows = run(net, some_symbols(5 * WINDOW, 20, V=40))
    return hashlib.sha256(rows.tobytes()).hexdigest()


@pytest.mark.parametrize(("kernel", "threads"), [*((kernel, "2") for kernel in kernels()), ("", "1")])
def test_the_same_bits_under_every_kernel(kernel, threads):
    setting = {"OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads}
    setting["PYTHONPATH"] = os.pathsep.join(sys.path)
    if kernel:
        setting["OPENBLAS_CORETYPE"] = kernel
    done = subprocess.run(
        [sys.executable, __file__], check=True, capture_output=True, text=True, env={**os.environ, **setting}
    )
    assert done.stdout.strip() == digest()


if __name__ == "__main__":
    print(digest())
