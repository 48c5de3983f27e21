"""Models of records on records that they were not made of, beside general compressors with dictionaries."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from chunker.errors import ChunkerError, UsageError
from chunker.models import Model
from chunker.records.codec import RecordCodec
from chunker.records.model import RecordModel
from chunker.records.rivals import rivals
from chunker.records.splitting import Rule
from chunker.records.training import FEWEST, VALIDATION_SHARE, hold_out, train


@dataclass(frozen=True)
class Measured:
    """Records that were encoded, each alone, decoded and compared.

    bytes_in: without separators. Seconds are CPU time of all threads: load_seconds until the first record was
    encoded, encode_seconds and decode_seconds for all of them.
    """

    records: int
    bytes_in: int
    bytes_out: int
    load_seconds: float
    encode_seconds: float
    decode_seconds: float

    @property
    def bits_per_byte(self) -> float | None:
        """Bits of the encoded records for each byte of the records; None if there is none."""
        return 8 * self.bytes_out / self.bytes_in if self.bytes_in else None

    @property
    def encoded_per_second(self) -> float | None:
        """Records a second of one core; None if it took no measurable time."""
        return self.records / self.encode_seconds if self.encode_seconds else None

    @property
    def decoded_per_second(self) -> float | None:
        """Records a second of one core; None if it took no measurable time."""
        return self.records / self.decode_seconds if self.decode_seconds else None


def measure(codec: RecordCodec, records: Sequence[bytes]) -> Measured:
    """Code records on as many cores as the codec uses.

    Raises
    ------
    ChunkerError: they do not come back as they were. UsageError: one is longer than the codec takes.
    """
    times = [time.process_time()]
    codec.encode(b"")
    times.append(time.process_time())
    encoded = codec.encode_many(records)
    times.append(time.process_time())
    decoded = codec.decode_many(encoded)
    times.append(time.process_time())
    for number, (before, after) in enumerate(zip(records, decoded, strict=True)):
        if before != after:
            raise ChunkerError(f"record {number} did not come back as it was: please report it")
    loading, encoding, decoding = (after - before for before, after in pairwise(times))
    return Measured(len(records), sum(map(len, records)), sum(map(len, encoded)), loading, encoding, decoding)


@dataclass(frozen=True)
class Comparison:
    """One file: a model made of nine tenths of its records, measured on the others.

    model_bytes: of the model's file. rivals: name -> bits a byte, None of one that is not installed.
    """

    model: RecordModel
    model_bytes: int
    measured: Measured
    rivals: dict[str, float | None]

    @property
    def gain(self) -> float | None:
        """Bits of the model over those of the best rival; None where nothing can be compared."""
        found = [bits for bits in self.rivals.values() if bits]
        own = self.measured.bits_per_byte
        return own / min(found) if found and own is not None else None


def compare(
    records: Sequence[bytes],
    rule: Rule,
    *,
    max_sample: int,
    net: Model | None = None,
    workers: int | None,
    seed: int = 0,
) -> Comparison:
    """Train on nine tenths of the records, and measure on the others.

    Raises
    ------
    UsageError: there are too few records.
    """
    records = [record for record in records if record]
    if len(records) < FEWEST:
        raise UsageError(f"there are {len(records)} records, too few to measure on some; name a larger file")
    training, held_out = hold_out(records, VALIDATION_SHARE, seed + 1)
    model = train(training, rule, max_sample=max_sample, net=net, seed=seed, workers=workers).model
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.safetensors"
        model.save(path)
        size = os.path.getsize(path)
        measured = measure(RecordCodec(model, workers=workers), held_out)
    known: dict[str, float | None] = {}
    for rival in rivals(training, model.config.terminator):
        coded = rival.coded_bytes(held_out)
        known[rival.name] = None if coded is None else 8 * coded / measured.bytes_in
    return Comparison(model, size, measured, known)
