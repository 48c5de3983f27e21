"""Writes tests/golden/*.nhc, archives that every version has to treat alike; `--check` decodes the good ones.

    python tests/make_golden.py                 only after a change of format, with a new version number
    python tests/make_golden.py --check [NAME ..]  whether they, or those, decode with CHUNKER_BACKEND's core
    python tests/make_golden.py --classifiers   golden/classifier-*, only after a change of their format

They need golden/tiny.safetensors, a model that is small and fixed, golden/ngrams.safetensors, whose level 0
is told n-grams, and golden/word.safetensors, whose level 0 is told its word so far as well, and whose level 1
reads where words end. Contents come from hashes, not from a random generator whose stream another version of
numpy could change, and are short, for the reference in Python takes its time.
"""

from __future__ import annotations

import hashlib
import json
import math
import sys
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any
from zlib import crc32

GOLDEN = Path(__file__).parent / "golden"
if __name__ == "__main__":
    sys.path.insert(0, str(GOLDEN.parent.parent))

from chunker.codec import frames, lempelziv
from chunker.codec.frames import MAX_BLOCK_BYTES, NO_FINGERPRINT, Coded, Kind, varint
from chunker.codec.samples import text as sample_text
from chunker.codec.stream import decompress
from chunker.core.backend import GATE_ALWAYS, Contexts, Progress, Settings, Stop, backend
from chunker.errors import (
    ArchiveError,
    ArchiveVersionError,
    CorruptArchive,
    NotAnArchive,
    TruncatedArchive,
    WrongModel,
)
from chunker.models import Model, load_model

VOCABULARY = """
    the of and to in a is that for it as was with be by on not he his but at are this have from or had an
    which one all were their there been has when who will more if no out so said what up its about into than
"""
WORDS = VOCABULARY.split()


def noise(n_bytes: int) -> bytes:
    blocks_ = (hashlib.blake2b(number.to_bytes(4, "big")).digest() for number in range(n_bytes // 64 + 1))
    return b"".join(blocks_)[:n_bytes]


def text(n_bytes: int) -> bytes:
    """Words in the order of a hash, with full stops."""
    out = bytearray()
    for number in noise(n_bytes):
        out += WORDS[number % len(WORDS)].encode() + (b".\n" if number > 230 else b" ")
    return bytes(out[:n_bytes])


def table(n_bytes: int) -> bytes:
    """Lines of numbers and names, with quotes and a header."""
    out = bytearray(b"day,name,count\n")
    for number, byte in enumerate(noise(n_bytes)):
        out += b'2024-05-%02d,"%s",%d\n' % (number % 28 + 1, WORDS[byte % 9].encode(), 7 * number + byte % 3)
    return bytes(out[:n_bytes])


def samples(n_bytes: int) -> bytes:
    """Two-byte numbers that wander, with a zero byte in most of them."""
    out, at = bytearray(), 100
    for byte in noise(n_bytes):
        at = max(0, at + byte % 9 - 4)
        out += at.to_bytes(2, "little")
    return bytes(out[:n_bytes])


CONTENTS = {
    "empty": b"",
    "one-byte": b"x",
    "noise": noise(300),
    "lzma": b"The same line, again and again, until the end.\n" * 40,
    "contexts-few": text(500),
    "contexts-many": table(700),
    "contexts-all": samples(500) + text(200)[::-1],
    "record": b"There was no one at the door when he had said that it was so",
    "woken": text(600),
    "always": text(400)[::-1],
    "ngrams": text(500),
    "word": text(500),
    "zeros": bytes(400),
    "no-blocks": b"",
    "two": b"x" + text(500),
    "full-contexts": table(400) + text(500)[100:] + samples(300),
    "full": text(600) + noise(500) + bytes(1500) + table(400) + text(700)[300:],
    "full-ngrams": text(300) + table(300),
    "sampled": text(500),
}
CONTENTS["padded"] = CONTENTS["full"]

FEW, MANY, ALL = (Settings(contexts, 0) for contexts in Contexts)
WOKEN = Settings(Contexts.MANY, 1200)
PROSE, PYTHON = Settings(Contexts.FEW, 0, sample=1), Settings(Contexts.MANY, 1200, sample=12)
RARELY = Settings(Contexts.FEW, 100)
ALWAYS = Settings(Contexts.ALL, GATE_ALWAYS)


def coded(content: bytes, how: Settings | Kind, model: Model) -> Coded:
    """A block as it is told, whether or not it pays."""
    if how is Kind.RAW:
        return Coded(Kind.RAW, None, content)
    if isinstance(how, Kind):
        return Coded(Kind.LZMA, None, lempelziv.encode_lzma(content, Stop()))
    needed = model if how.needs_model else None
    known = sample_text(how.sample)
    payload = backend().encode(content, how, needed, len(content), Stop(), Progress(), known)
    if payload is None:
        raise SystemExit("the core does not shrink the contents of the golden archives")
    return Coded(frames.kind_of(how), how, payload)


def full(model: Model | None, parts: list[tuple[bytes, Settings | Kind]]) -> bytes:
    """A full archive of blocks (content, how); without model none of them may need one."""
    out, heads, crc = frames.full_start(NO_FINGERPRINT if model is None else model.fingerprint), b"", 0
    for content, how in parts:
        block = coded(content, how, model or tiny_model())
        head = frames.make_head(block, len(content))
        out += frames.block_frame(head, block.payload, content)
        heads += head.raw
        crc = crc32(content, crc)
    return out + frames.trailer(heads, crc)


def good() -> dict[str, bytes]:
    """The archive of each of CONTENTS, but for `sampled`."""
    tiny, told, word = tiny_model(), model_for("ngrams"), model_for("word")

    def compact(name: str, how: Settings | Kind, model: Model = tiny) -> bytes:
        content = CONTENTS[name]
        return frames.compact_archive(coded(content, how, model), content, model.fingerprint)

    def cut(name: str, *parts: tuple[int, Settings | Kind]) -> list[tuple[bytes, Settings | Kind]]:
        out, at = [], 0
        for size, how in parts:
            out.append((CONTENTS[name][at : at + size], how))
            at += size
        return out

    few = compact("contexts-few", FEW)
    whole = full(
        tiny, cut("full", (600, WOKEN), (500, Kind.RAW), (1500, Kind.LZMA), (400, MANY), (400, ALWAYS))
    )
    return {
        "empty": compact("empty", Kind.RAW),
        "one-byte": compact("one-byte", Kind.RAW),
        "noise": compact("noise", Kind.RAW),
        "lzma": compact("lzma", Kind.LZMA),
        "contexts-few": few,
        "contexts-many": compact("contexts-many", MANY),
        "contexts-all": compact("contexts-all", ALL),
        "record": compact("record", WOKEN),
        "woken": compact("woken", RARELY),
        "always": compact("always", ALWAYS),
        "ngrams": compact("ngrams", WOKEN, told),
        "word": compact("word", WOKEN, word),
        "zeros": compact("zeros", MANY),
        "no-blocks": full(None, []),
        "two": compact("one-byte", Kind.RAW) + few,
        "full-contexts": full(None, cut("full-contexts", (400, FEW), (400, MANY), (300, ALL))),
        "full": whole,
        "padded": whole + bytes(512),
        "full-ngrams": full(told, cut("full-ngrams", (300, ALWAYS), (300, RARELY))),
    }


def sampled() -> bytes:
    """One whose blocks read samples, for which the reference takes minutes."""
    content = CONTENTS["sampled"]
    return full(tiny_model(), [(content[:300], PROSE), (content[300:], PYTHON)])


def flipped(data: bytes, at: int, bit: int = 0) -> bytes:
    out = bytearray(data)
    out[at] ^= 1 << bit
    return bytes(out)


def bad(archives: dict[str, bytes]) -> dict[str, tuple[bytes, type[ArchiveError]]]:
    """Archives that must be refused, each with the error that says so."""
    return {**damaged_container(archives), **damaged_blocks(archives), **impossible(archives)}


def damaged_container(archives: dict[str, bytes]) -> dict[str, tuple[bytes, type[ArchiveError]]]:
    """What is no archive, is cut, or has a wrong bit outside of its blocks."""
    whole, record = archives["full"], archives["record"]
    start = frames.START_BYTES
    newer_method = flipped(whole, 4)[: start - 4]
    return {
        "empty-file": (b"", TruncatedArchive),
        "text-file": (b"This is no archive.\n", NotAnArchive),
        "truncated-payload": (whole[: start + 100], TruncatedArchive),
        "truncated-index": (whole[:-20], TruncatedArchive),
        "truncated-by-one": (whole[:-1], TruncatedArchive),
        "truncated-record": (record[:-1], TruncatedArchive),
        "truncated-contexts": (archives["contexts-many"][:-5], TruncatedArchive),
        "flipped-magic": (flipped(whole, 1), NotAnArchive),
        "flipped-fingerprint": (flipped(whole, 6), CorruptArchive),
        "flipped-start-crc": (flipped(whole, start - 1), CorruptArchive),
        "flipped-index": (flipped(whole, len(whole) - 21), CorruptArchive),
        "flipped-content-crc": (flipped(whole, len(whole) - 19), CorruptArchive),
        "flipped-index-size": (flipped(whole, len(whole) - 15), CorruptArchive),
        "flipped-index-crc": (flipped(whole, len(whole) - 7), CorruptArchive),
        "flipped-end": (flipped(whole, len(whole) - 1), CorruptArchive),
        "wrong-model": (frames.full_start(b"another!") + whole[start:], WrongModel),
        "no-model": (frames.full_start(NO_FINGERPRINT) + whole[start:], WrongModel),
        "trailing-text": (record + b"\n", CorruptArchive),
        "older-version": (frames.MAGIC + b"\x13" + record[4:], ArchiveVersionError),
        "version-0": (frames.MAGIC + b"\x03" + record[4:], CorruptArchive),
        "newer-version": (frames.MAGIC + b"\x33" + record[4:], ArchiveVersionError),
        "newer-form": (frames.MAGIC + b"\x25" + record[4:], ArchiveVersionError),
        "newer-method": (newer_method + crc32(newer_method).to_bytes(4, "little"), ArchiveVersionError),
    }


def damaged_blocks(archives: dict[str, bytes]) -> dict[str, tuple[bytes, type[ArchiveError]]]:
    """What has a wrong bit in a block, or a payload that is not that of its content."""
    whole, record, few = archives["full"], archives["record"], archives["contexts-few"]
    start = frames.START_BYTES
    head = frames.read_head(whole, start)
    if head is None:
        raise SystemExit("good-full.nhc has no block")
    payload_at = start + len(head.raw)
    crc_at = payload_at + head.payload_size
    content = CONTENTS["contexts-few"]
    payload = coded(content, FEW, tiny_model()).payload

    def with_payload(other: bytes, how: Settings = FEW) -> tuple[bytes, type[ArchiveError]]:
        block = Coded(frames.kind_of(how), how, other)
        return frames.compact_archive(block, content, tiny_model().fingerprint), CorruptArchive

    return {
        "flipped-kind": (flipped(whole, start), CorruptArchive),
        "flipped-size": (flipped(whole, start + 1), CorruptArchive),
        "flipped-contexts": (flipped(whole, payload_at - 3), CorruptArchive),
        "flipped-gate": (flipped(whole, payload_at - 2), CorruptArchive),
        "flipped-payload": (flipped(whole, payload_at + 50), CorruptArchive),
        "flipped-last-payload-bit": (flipped(whole, crc_at - 1), CorruptArchive),
        "flipped-crc": (flipped(whole, crc_at), CorruptArchive),
        "flipped-record-fingerprint": (flipped(record, 4), WrongModel),
        "flipped-record-payload": (flipped(record, 18), CorruptArchive),
        "flipped-record-crc": (flipped(record, len(record) - 1), CorruptArchive),
        "flipped-contexts-payload": (flipped(few, 20), CorruptArchive),
        "flipped-lzma-payload": (flipped(archives["lzma"], 20), CorruptArchive),
        "payload-too-short": with_payload(payload[: len(payload) // 2]),
        "payload-too-long": with_payload(payload + bytes(9)),
        "payload-of-other-contexts": with_payload(payload, MANY),
        "payload-without-net": with_payload(payload, WOKEN),
    }


def impossible(archives: dict[str, bytes]) -> dict[str, tuple[bytes, type[ArchiveError]]]:
    """Heads that no writer can have meant; refused before anything is done for them."""
    start = archives["full"][: frames.START_BYTES]
    thousand = varint(1000) + b"\x64"  # a block's size and its payload's
    too_big, rest = varint(MAX_BLOCK_BYTES + 1), bytes(64)
    heads = {
        "newer-kind": start + b"\x05" + thousand + b"\x01" + rest,
        "terabytes": frames.MAGIC + b"\x21" + b"\xff" * 6 + b"\x7f",
        "raw-too-big": start + b"\x01" + too_big + rest,
        "lzma-too-big": start + b"\x02" + too_big + b"\x64" + rest,
        "contexts-too-big": start + b"\x03" + too_big + varint(1 << 20) + b"\x01" + rest,
        "stack-too-big": start + b"\x04" + too_big + varint(1 << 20) + b"\x01\x01" + rest,
        "compact-lzma-too-big": frames.MAGIC + b"\x22" + too_big + b"\x64" + rest,
        "empty-block": start + b"\x03\x00\x00\x01" + rest,
        "payload-as-long": start + b"\x03\x64\x64\x01" + rest,
        "no-such-contexts": start + b"\x03" + thousand + b"\x03" + rest,
        "compact-no-such-contexts": frames.MAGIC + b"\x23" + thousand + b"\x03" + rest,
        "no-such-sample": start + b"\x03" + thousand + b"\xbd" + rest,
        "compact-no-such-sample": frames.MAGIC + b"\x23" + thousand + b"\xbd" + rest,
        "sampled-too-big": start + b"\x03" + varint(MAX_BLOCK_BYTES) + varint(1 << 20) + b"\x05" + rest,
        "gate-zero": start + b"\x04" + thousand + b"\x01\x00" + rest,
        "gate-too-wide": start + b"\x04" + thousand + b"\x01" + varint(GATE_ALWAYS + 1) + rest,
        "compact-gate-zero": frames.MAGIC + b"\x24abcd" + thousand + b"\x01\x00" + rest,
        "number-too-long": start + b"\x03\xe8\x87\x00\x64\x01" + rest,
        # 17 bytes that claim 4 MiB, and a byte more than a payload of 64 bytes may
        "claims-content": frames.MAGIC
        + b"\x24abcd"
        + varint(MAX_BLOCK_BYTES)
        + bytes.fromhex("00 01 01 01020304"),
        "claims-a-byte-more": start + b"\x03" + varint((1 << 16) + 64 * (1 << 12) + 1) + b"\x40\x01" + rest,
    }
    return {name: (data, CorruptArchive) for name, data in heads.items()}


@cache
def tiny_model() -> Model:
    return load_model(GOLDEN / "tiny.safetensors")


@cache
def model_for(name: str) -> Model:
    """What the archive of that name was made with."""
    of_its_own = {"ngrams": "ngrams", "full-ngrams": "ngrams", "word": "word"}
    return load_model(GOLDEN / f"{of_its_own[name]}.safetensors") if name in of_its_own else tiny_model()


def check(names: Iterable[str]) -> int:
    """How many of these good archives do not decode to their content."""
    wrong = 0
    for name in names:
        content = CONTENTS[name]
        if decompress((GOLDEN / f"good-{name}.nhc").read_bytes(), model=model_for(name)) != content:
            print(f"good-{name}.nhc decodes to something else", file=sys.stderr)
            wrong += 1
    return wrong


def labelled_cases() -> dict[str, tuple[list[Any], list[str]]]:
    """What the golden classifiers were fitted to: sequences of symbols and of vectors, and their labels."""
    labels = ["low", "high"] * 8
    words = [text(40) if label == "low" else table(40 + i) for i, label in enumerate(labels)]
    waves = []
    for i, label in enumerate(labels):
        turn = (i + 1) * (0.2 if label == "low" else 0.9)
        waves.append([[math.sin(turn * t), math.cos(turn * t)] for t in range(8 + i)])
    return {"symbols": (words, labels), "vectors": (waves, labels)}


def write_classifiers() -> None:
    """Fit and save small classifiers with every kind of head, and beside them what they find probable."""
    from chunker.classification import (
        ConvolutionalHead,
        HistoryClassifier,
        NgramHead,
        RandomKernelHead,
        RecurrentHead,
        save_classifier,
    )

    quick: dict[str, Any] = {"steps": 3, "batch_size": 4}
    heads = {
        "symbols": [RecurrentHead(backwards=True, **quick), NgramHead(buckets=64, longest=2)],
        "vectors": [ConvolutionalHead(maps=2, **quick), RandomKernelHead(kernels=9)],
    }
    for kind, (rows, labels) in labelled_cases().items():
        model = HistoryClassifier((4, 3), steps=5, heads=heads[kind], random_state=0).fit(rows, labels)
        save_classifier(GOLDEN / f"classifier-{kind}.safetensors", model)
        found = {
            "classes": model.classes_.tolist(),
            "probabilities": model.predict_proba(rows).round(9).tolist(),
        }
        (GOLDEN / f"classifier-{kind}.json").write_text(json.dumps(found) + "\n", encoding="utf-8")


def main() -> int:
    if "--check" in sys.argv[1:]:
        return check(sys.argv[2:] or CONTENTS)
    if "--classifiers" in sys.argv[1:]:
        write_classifiers()
        return 0
    archives = good() | {"sampled": sampled()}
    described = bad(archives)
    for old in GOLDEN.glob("*.nhc"):
        old.unlink()
    for name, data in archives.items():
        (GOLDEN / f"good-{name}.nhc").write_bytes(data)
    for name, (data, _) in described.items():
        (GOLDEN / f"bad-{name}.nhc").write_bytes(data)
    return check(CONTENTS)


if __name__ == "__main__":
    sys.exit(main())
