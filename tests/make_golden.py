"""Writes tests/golden/*.nhc, archives that every version has to treat alike; `--check` decodes the good ones.

    python tests/make_golden.py            only after a change of format, with a new version number
    python tests/make_golden.py --check    exit code 0 if all of them decode on this machine, as it is set now

They need golden/tiny.safetensors, a model that is small and fixed, and golden/ngrams.safetensors, whose level 0
is told n-grams. Contents come from hashes, not from a
random generator whose stream another version of numpy could change.
"""

from __future__ import annotations

import hashlib
import sys
from functools import cache
from pathlib import Path
from zlib import crc32

GOLDEN = Path(__file__).parent / "golden"
if __name__ == "__main__":
    sys.path.insert(0, str(GOLDEN.parent.parent))

from chunker.codec import blocks, frames, lempelziv
from chunker.codec.frames import Kind
from chunker.codec.stream import decompress
from chunker.errors import (
    ArchiveError,
    ArchiveVersionError,
    CorruptArchive,
    NotAnArchive,
    TruncatedArchive,
    WrongModel,
)
from chunker.modelfile import Model, load_model

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


CONTENTS = {
    "empty": b"",
    "one-byte": b"x",
    "record": b"There was no one at the door when he had said that it was so",
    "lanes": text(1003),
    "lzma": b"The same line, again and again, until the end.\n" * 40,
    "noise": noise(300),
    "full": text(3000) + noise(500) + bytes(1500) + text(1500)[::-1],
    "no-blocks": b"",
    "two": b"x" + text(1003),
    "mixed": text(420),
    "mixed-lanes": text(903)[::-1],
    "learning-record": text(150),
    "learning": text(1604),
    "stretch": noise(300) + b"far and " * 600_000 + noise(200) + noise(300) + text(300),
    "ngrams": text(903),
    "ngrams-learning": text(1604),
    "full-learning": text(4000) + text(1400)[::-1] + noise(300) + text(1000)[100:],
}


def net_block(model: Model, kind: Kind, content: bytes, lanes: int) -> tuple[int, bytes]:
    payload = blocks.encode_net(model.integer_stack(), content, lanes, len(content), kind=kind)
    if payload is None:
        raise SystemExit("tiny.safetensors does not shrink the text of the golden archives: train it longer")
    return lanes, payload


def full(model: Model, parts: list[tuple[Kind, bytes, int]]) -> bytes:
    """A full archive of blocks (kind, content, lanes)."""
    out, heads, crc = frames.full_start(model.fingerprint), b"", 0
    for kind, content, lanes in parts:
        payload = content
        if kind is Kind.LZMA:
            payload = lempelziv.encode_lzma(content)
        elif kind.needs_model:
            lanes, payload = net_block(model, kind, content, lanes)
        head = frames.make_head(kind, len(content), lanes, len(payload))
        out += frames.block_frame(head, payload, content)
        heads += head.raw
        crc = crc32(content, crc)
    return out + frames.trailer(heads, crc)


def compact(model: Model, kind: Kind, content: bytes, lanes: int = 1) -> bytes:
    payload = content
    if kind is Kind.LZMA:
        payload = lempelziv.encode_lzma(content)
    elif kind.needs_model:
        lanes, payload = net_block(model, kind, content, lanes)
    return frames.compact_archive(kind, lanes, payload, content, model.fingerprint)


def good(model: Model) -> dict[str, bytes]:
    """The archive of each of CONTENTS."""
    whole, told = CONTENTS["full"], model_for("ngrams")
    cuts = [(Kind.NET, whole[:3000], 4), (Kind.RAW, whole[3000:3500], 0), (Kind.LZMA, whole[3500:5000], 0)]
    lanes = compact(model, Kind.NET, CONTENTS["lanes"], lanes=5)
    return {
        "empty": compact(model, Kind.RAW, b""),
        "one-byte": compact(model, Kind.RAW, b"x"),
        "record": compact(model, Kind.NET, CONTENTS["record"]),
        "lanes": lanes,
        "lzma": compact(model, Kind.LZMA, CONTENTS["lzma"]),
        "noise": compact(model, Kind.RAW, CONTENTS["noise"]),
        "full": full(model, [*cuts, (Kind.NET, whole[5000:], 7)]),
        "no-blocks": full(model, []),
        "two": compact(model, Kind.RAW, b"x") + lanes,
        "mixed": compact(model, Kind.MIXED, CONTENTS["mixed"]),
        "mixed-lanes": compact(model, Kind.MIXED, CONTENTS["mixed-lanes"], lanes=7),
        "learning-record": compact(model, Kind.LEARNING, CONTENTS["learning-record"]),
        "learning": compact(model, Kind.LEARNING, CONTENTS["learning"], lanes=5),
        "ngrams": compact(told, Kind.NET, CONTENTS["ngrams"], lanes=3),
        "ngrams-learning": compact(told, Kind.LEARNING, CONTENTS["ngrams-learning"], lanes=5),
        "stretch": full(
            model,
            [
                (Kind.RAW, CONTENTS["stretch"][:100], 0),
                (Kind.LZMA, CONTENTS["stretch"][100:-300], 0),  # longer than a block of another kind can be
                (Kind.MIXED, CONTENTS["stretch"][-300:], 2),
            ],
        ),
        "full-learning": full(
            model,
            [
                (Kind.LEARNING, CONTENTS["full-learning"][:2400], 6),
                (Kind.MIXED, CONTENTS["full-learning"][2400:4000], 4),
                (Kind.LEARNING, CONTENTS["full-learning"][4000:5400], 256),
                (Kind.RAW, CONTENTS["full-learning"][5400:5700], 0),
                (Kind.MIXED, CONTENTS["full-learning"][5700:], 33),
            ],
        ),
    }


def flipped(data: bytes, at: int, bit: int = 0) -> bytes:
    out = bytearray(data)
    out[at] ^= 1 << bit
    return bytes(out)


def bad(archives: dict[str, bytes]) -> dict[str, tuple[bytes, type[ArchiveError]]]:
    """Archives that must be refused, each with the error that says so."""
    whole, record = archives["full"], archives["record"]
    stretch = archives["stretch"]
    learnt, mixed, learning = archives["full-learning"], archives["mixed"], archives["learning"]
    thousand = frames.varint(1000) + b"\x64"  # a block's size and its payload's
    start = frames.START_BYTES
    head = frames.read_head(whole, start)
    if head is None:
        raise SystemExit("good-full.nhc has no block")
    payload_at = start + len(head.raw)
    crc_at = payload_at + head.payload_size
    newer_method = flipped(whole, 4)[: start - 4]
    return {
        "empty-file": (b"", TruncatedArchive),
        "text-file": (b"This is no archive.\n", NotAnArchive),
        "truncated-payload": (whole[: payload_at + 100], TruncatedArchive),
        "truncated-index": (whole[:-20], TruncatedArchive),
        "truncated-by-one": (whole[:-1], TruncatedArchive),
        "truncated-record": (record[:-1], TruncatedArchive),
        "flipped-magic": (flipped(whole, 1), NotAnArchive),
        "flipped-fingerprint": (flipped(whole, 6), CorruptArchive),
        "flipped-start-crc": (flipped(whole, start - 1), CorruptArchive),
        "flipped-kind": (flipped(whole, start), CorruptArchive),
        "flipped-size": (flipped(whole, start + 1), CorruptArchive),
        "flipped-payload": (flipped(whole, payload_at + 50), CorruptArchive),
        "flipped-last-payload-bit": (flipped(whole, crc_at - 1), CorruptArchive),
        "flipped-crc": (flipped(whole, crc_at), CorruptArchive),
        "flipped-index": (flipped(whole, len(whole) - 21), CorruptArchive),
        "flipped-content-crc": (flipped(whole, len(whole) - 19), CorruptArchive),
        "flipped-index-size": (flipped(whole, len(whole) - 15), CorruptArchive),
        "flipped-index-crc": (flipped(whole, len(whole) - 7), CorruptArchive),
        "flipped-end": (flipped(whole, len(whole) - 1), CorruptArchive),
        "wrong-model": (frames.full_start(b"another!") + whole[start:], WrongModel),
        "flipped-record-fingerprint": (flipped(record, 4), WrongModel),
        "flipped-record-payload": (flipped(record, 12), CorruptArchive),
        "flipped-record-crc": (flipped(record, len(record) - 1), CorruptArchive),
        "trailing-zeros": (whole + bytes(512), CorruptArchive),
        "trailing-text": (record + b"\n", CorruptArchive),
        "newer-version": (flipped(whole, 3, bit=5), ArchiveVersionError),
        "newer-form": (frames.MAGIC + b"\x19" + record[4:], ArchiveVersionError),
        "newer-kind": (whole[:start] + b"\x06" + thousand + b"\x01" + bytes(64), CorruptArchive),
        "newer-method": (newer_method + crc32(newer_method).to_bytes(4, "little"), ArchiveVersionError),
        "terabytes": (frames.MAGIC + b"\x11" + b"\xff" * 6 + b"\x7f", CorruptArchive),
        "block-too-big": (whole[:start] + b"\x01" + frames.varint((1 << 22) + 1) + bytes(64), CorruptArchive),
        "net-too-big": (
            whole[:start] + b"\x03" + frames.varint((1 << 22) + 1) + b"\x64\x01" + bytes(64),
            CorruptArchive,
        ),
        "lzma-too-big": (
            whole[:start] + b"\x02" + frames.varint((1 << 26) + 1) + b"\x64" + bytes(64),
            CorruptArchive,
        ),
        "compact-lzma-too-big": (
            frames.MAGIC + b"\x12" + frames.varint((1 << 26) + 1) + b"\x64" + bytes(64),
            CorruptArchive,
        ),
        "truncated-stretch": (stretch[: len(stretch) // 2], TruncatedArchive),
        "flipped-stretch-size": (flipped(stretch, start + 109), CorruptArchive),
        "flipped-stretch-payload": (flipped(stretch, len(stretch) // 2), CorruptArchive),
        "truncated-learning": (learnt[: len(learnt) // 3], TruncatedArchive),
        "truncated-mixed": (mixed[:-5], TruncatedArchive),
        "flipped-mixed-payload": (flipped(mixed, 20), CorruptArchive),
        "flipped-learning-payload": (flipped(learning, 20), CorruptArchive),
        "flipped-learning-last-payload-bit": (flipped(learning, len(learning) - 5), CorruptArchive),
        "flipped-learning-crc": (flipped(learning, len(learning) - 1), CorruptArchive),
        "flipped-learning-fingerprint": (flipped(learning, 4), WrongModel),
        "flipped-learning-kind": (flipped(learnt, start), CorruptArchive),
        "mixed-called-learning": (frames.MAGIC + b"\x17" + mixed[4:], CorruptArchive),
        "lanes-zero": (whole[:start] + b"\x05" + thousand + b"\x00" + bytes(64), CorruptArchive),
        "mixed-lanes-too-many": (
            whole[:start] + b"\x04" + thousand + b"\x81\x02" + bytes(64),
            CorruptArchive,
        ),
        "learning-lanes-too-many": (
            whole[:start] + b"\x05" + thousand + b"\x81\x02" + bytes(64),
            CorruptArchive,
        ),
        "compact-lanes-too-many": (learning[:3] + b"\x18abcd" + thousand + b"\x81\x02", CorruptArchive),
        "lanes-too-many": (whole[:start] + b"\x03\xe8\x07\x64\xe9\x07" + bytes(64), CorruptArchive),
        # 17 bytes that claim 4 MiB in one lane; 64 bytes that claim 262,144 in 7 lanes
        "claims-content": (
            frames.MAGIC + b"\x13" + bytes.fromhex("e30b6b73 80808002 00 01020304"),
            CorruptArchive,
        ),
        "claims-steps": (
            whole[:start] + b"\x05" + frames.varint(1 << 18) + b"\x40\x07" + bytes(64),
            CorruptArchive,
        ),
    }


def tiny_model() -> Model:
    return load_model(GOLDEN / "tiny.safetensors")


@cache
def model_for(name: str) -> Model:
    """What the archive of that name was made with."""
    return load_model(GOLDEN / "ngrams.safetensors") if name.startswith("ngrams") else tiny_model()


def check() -> int:
    """How many of the good archives do not decode to their content."""
    wrong = 0
    for name, content in CONTENTS.items():
        if decompress((GOLDEN / f"good-{name}.nhc").read_bytes(), model=model_for(name)) != content:
            print(f"good-{name}.nhc decodes to something else", file=sys.stderr)
            wrong += 1
    return wrong


def main() -> int:
    if "--check" in sys.argv[1:]:
        return check()
    archives = good(tiny_model())
    for old in GOLDEN.glob("*.nhc"):
        old.unlink()
    for name, data in archives.items():
        (GOLDEN / f"good-{name}.nhc").write_bytes(data)
    for name, (data, _) in bad(archives).items():
        (GOLDEN / f"bad-{name}.nhc").write_bytes(data)
    return check()


if __name__ == "__main__":
    sys.exit(main())
