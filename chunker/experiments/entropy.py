"""How near real archives come to the entropy of sources whose entropy is known.

    source --sample--> train a stack, quantize --.
       '-----sample--> chunker.compress ----------+--> archive, decompressed and compared
                            '-- bits a symbol, beside -log2 P(sample) / n and the entropy rate

The sources are those of chunker.data: Markov chains of orders 1 to 3, a hidden Markov model, the Reber
grammar (Cover & Thomas 2006, chapter 4; Rabiner 1989; Cleeremans et al. 1989). Symbols are the bytes 0, 1, 2,
... What is counted is the whole archive: heads, checksums, and the cold start of every block.

Solved: the archive is at most 1 % longer than the sample's own code length under the source's probabilities,
`ideal_bits`, below which a code gets only by chance, and decompresses to the sample. The mean of
`ideal_bits` a symbol is the entropy rate; against that rate itself, `rate_percent`, a sample is the noisier
the shorter it is.

The preset is "best", which runs the net at every byte: it was trained on the same source, so it knows as much
as can be known, and the mixture has to learn when to rely on it.
"""

from __future__ import annotations

import lzma
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch

from chunker.codec.stream import compress, decompress
from chunker.config import StackConfig
from chunker.data import HiddenMarkov, MarkovChain, ReberSource
from chunker.errors import MissingExtra
from chunker.experiments.results import Row
from chunker.learning.config import TrainConfig
from chunker.learning.corpus import Source, Streams, TextFile
from chunker.learning.stack import Stack
from chunker.learning.trainer import Trainer
from chunker.models import Model

NET = "history-compressor"
NETS = (NET, "xz", "ppmd")  # ppmd if pyppmd is installed
ALLOWED_PERCENT = 1.0
PPMD_ORDERS = (2, 3, 4, 6)  # the best one counts
_PPMD_BYTES = 1 << 26


class KnownSource(Protocol):
    """What a source must tell, see chunker.data."""

    @property
    def entropy_bits(self) -> float: ...

    def sample(self, n: int, rng: np.random.Generator) -> npt.NDArray[np.uint8]: ...

    def ideal_bits(self, symbols: npt.ArrayLike) -> float: ...


def sources() -> dict[str, KnownSource]:
    """The sources by name."""
    return {
        "markov-1": MarkovChain(symbols=8, order=1),
        "markov-2": MarkovChain(symbols=6, order=2),
        "markov-3": MarkovChain(symbols=4, order=3),
        "hidden-markov": HiddenMarkov(states=6, symbols=6),
        "reber": ReberSource(),
    }


@dataclass(frozen=True)
class Settings:
    """How to train and test. bytes: trained on, each of them once; test: symbols compressed.

    batch, window, piece, learning_rate, average: see TrainConfig. cell, width: of the only level.
    """

    cell: str = "gru"
    width: int = 48
    bytes: int = 6_000_000
    batch: int = 64
    window: int = 16
    piece: int = 2048
    learning_rate: float = 1e-2
    average: int = 400
    test: int = 1_000_000
    preset: str = "best"


def run(
    seeds: int,
    seconds: float | None,
    report: Callable[[Row], None],
    settings: Settings | None = None,
    chosen: dict[str, KnownSource] | None = None,
    nets: tuple[str, ...] = NETS,
) -> list[Row]:
    """The experiment with seeds 0 .. seeds - 1, on all sources or those that are `chosen`, with those `nets`.

    seconds: of training for each source and seed, in place of settings.bytes; what is not read then is
    not trained on, and what is read twice counts twice. A row's `sequences` are the symbols trained on.

    more: source; entropy_bits: the rate; ideal_bits_per_symbol, bits_per_symbol: of the sample and of its
    archive; percent, rate_percent: how much longer the archive is than the sample's ideal and than the rate;
    bytes: of the archive; exact: whether the sample came back; code_seconds: compressing and decompressing.

    Raises
    ------
    MissingExtra: PPMd alone is asked for, and pyppmd is not installed. Among others it is left out then.
    """
    if nets == ("ppmd",) and find_spec("pyppmd") is None:
        raise MissingExtra("PPMd needs pyppmd: pip install pyppmd")
    settings = settings or Settings()
    rows: list[Row] = []
    for seed in range(seeds):
        for name, source in (sources() if chosen is None else chosen).items():
            for row in _rows(name, source, settings, seconds, seed, nets):
                rows.append(row)
                report(row)
    return rows


def train(
    source: KnownSource, settings: Settings, seconds: float | None, seed: int
) -> tuple[Model, int, float]:
    """A model trained on a fresh sample of a source; the symbols read; the seconds of training."""
    drawn = source.sample(settings.bytes, np.random.default_rng([seed, 0]))
    corpus = Source("source", [TextFile("source", len(drawn), Path("source"), drawn)], 1.0, 0.0)
    config = TrainConfig(
        minutes=None if seconds is None else seconds / 60,
        bytes=settings.bytes if seconds is None else None,
        batch=settings.batch,
        window=settings.window,
        piece=settings.piece,
        learning_rate=settings.learning_rate,
        average=settings.average,
        validations=1,
        seed=seed,
        precision="float32",
    )
    streams = Streams([corpus], config.batch, config.window, config.piece, seed)
    torch.manual_seed(seed)
    stack = Stack(StackConfig(levels=(settings.width,), cell=settings.cell))
    trainer = Trainer(stack, streams, config)
    trainer.run()
    shape, tensors, _ = trainer.result()
    return Stack.complete(shape, tensors).to_model("source"), trainer.bytes, trainer.seconds


def _rows(
    name: str,
    source: KnownSource,
    settings: Settings,
    seconds: float | None,
    seed: int,
    nets: tuple[str, ...],
) -> list[Row]:
    sample = source.sample(settings.test, np.random.default_rng([seed, 1]))
    ideal = source.ideal_bits(sample) / len(sample)
    data = sample.tobytes()

    def row(net: str, size: int, exact: bool, sequences: int, taken: float, code_seconds: float) -> Row:
        bits = 8 * size / len(data)
        percent = 100 * (bits / ideal - 1)
        return Row(
            net=net,
            seed=seed,
            solved=exact and percent <= ALLOWED_PERCENT,
            sequences=sequences,
            seconds=taken,
            more={
                "source": name,
                "entropy_bits": round(source.entropy_bits, 6),
                "ideal_bits_per_symbol": round(ideal, 6),
                "bits_per_symbol": round(bits, 6),
                "percent": round(percent, 4),
                "rate_percent": round(100 * (bits / source.entropy_bits - 1), 4),
                "bytes": size,
                "exact": exact,
                "code_seconds": round(code_seconds, 2),
            },
            asked=net == NET,
        )

    rows: list[Row] = []
    coders: dict[str, Code] = {"xz": _xz, "ppmd": _ppmd}
    read, trained_seconds = 0, 0.0
    if NET in nets:
        model, read, trained_seconds = train(source, settings, seconds, seed)
        coders = {NET: lambda data: _chunker(data, model, settings.preset), **coders}
    for net, code in coders.items():
        if net not in nets:
            continue
        begun = time.perf_counter()
        coded = code(data)
        if coded is None:
            continue
        trained = (read, trained_seconds) if net == NET else (0, 0.0)
        rows.append(row(net, *coded, *trained, time.perf_counter() - begun))
    return rows


Code = Callable[[bytes], "tuple[int, bool] | None"]
"""Data -> bytes of its archive, and whether the archive gives it back; None if the coder is not installed."""


def _chunker(data: bytes, model: Model, preset: str) -> tuple[int, bool]:
    archive = compress(data, preset, model=model)
    return len(archive), decompress(archive, model=model) == data


def _xz(data: bytes) -> tuple[int, bool]:
    archive = lzma.compress(data, preset=9 | lzma.PRESET_EXTREME)
    return len(archive), lzma.decompress(archive) == data


def _ppmd(data: bytes) -> tuple[int, bool] | None:
    """PPMd variant I without a container, at the order that suits best."""
    try:
        import pyppmd
    except ImportError:
        return None
    archives: list[tuple[bytes, int]] = []
    for order in PPMD_ORDERS:
        encoder = pyppmd.Ppmd8Encoder(order, _PPMD_BYTES)
        archives.append((encoder.encode(data) + encoder.flush(), order))
    archive, order = min(archives, key=lambda pair: len(pair[0]))
    decoder = pyppmd.Ppmd8Decoder(order, _PPMD_BYTES)
    return len(archive), decoder.decode(archive) == data
