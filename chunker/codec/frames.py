"""The bytes of an archive, part by part, and what a reader refuses before it allocates anything.

`chunker/FORMAT.md` is the specification. Everything here is a pure function from bytes to fields or back; it
knows neither the net nor numpy.

    compact:  start  block-fields  payload  CRC-32                     one block, for small input
    full:     start  (block-head payload CRC-32)*  trailer             trailer: mark, heads again, checks
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

from chunker.errors import ArchiveVersionError, CorruptArchive, NotAnArchive

MAGIC = b"\xa7NH"
END_MAGIC = b"HN\xa7"
VERSION = 1
METHOD_STATIC = 0

MAX_BLOCK_BYTES = 1 << 22
MAX_LZMA_BYTES = 1 << 26  # xz -9 sees as far
MAX_LANES = 1 << 12
MAX_LEARNING_LANES = 1 << 8  # what a block keeps for learning grows with its lanes
FINGERPRINT_BYTES = 8
COMPACT_FINGERPRINT_BYTES = 4

# What a block under the net may claim: so much, and so much more for each byte of payload.
CLAIM_BYTES, CLAIM_BYTES_MORE = 1 << 16, 1 << 12
CLAIM_STEPS, CLAIM_STEPS_MORE = 1 << 14, 1 << 8

CRC_BYTES = 4
START_BYTES = len(MAGIC) + 2 + FINGERPRINT_BYTES + CRC_BYTES
FOOTER_BYTES = 8 + CRC_BYTES + len(END_MAGIC)
END_OF_BLOCKS = 0

Bytes = bytes | bytearray | memoryview


class Kind(enum.IntEnum):
    """How a block's content became its payload."""

    RAW = 1
    LZMA = 2
    NET = 3
    MIXED = 4  # the net's readout learns, and its predictions are mixed with those of the contexts
    LEARNING = 5  # as MIXED, and all of the net learns

    @property
    def needs_model(self) -> bool:
        """Whether the net is at work, and the block has lanes."""
        return self >= Kind.NET

    @property
    def max_bytes(self) -> int:
        """How long a block's content may be."""
        return MAX_LZMA_BYTES if self is Kind.LZMA else MAX_BLOCK_BYTES

    @property
    def max_lanes(self) -> int:
        """How many lanes a block may have."""
        return MAX_LEARNING_LANES if self >= Kind.MIXED else MAX_LANES


class Form(enum.IntEnum):
    """The low half of the fourth byte; all but FULL are compact."""

    FULL = 0
    RAW = 1
    LZMA = 2
    NET = 3
    NET_LANES = 4
    MIXED = 5
    MIXED_LANES = 6
    LEARNING = 7
    LEARNING_LANES = 8


# What the compact forms mean: the kind of the block, and whether its lanes are given.
_COMPACT = {
    Form.RAW: (Kind.RAW, False),
    Form.LZMA: (Kind.LZMA, False),
    Form.NET: (Kind.NET, False),
    Form.NET_LANES: (Kind.NET, True),
    Form.MIXED: (Kind.MIXED, False),
    Form.MIXED_LANES: (Kind.MIXED, True),
    Form.LEARNING: (Kind.LEARNING, False),
    Form.LEARNING_LANES: (Kind.LEARNING, True),
}
_COMPACT_FORMS = {meaning: form for form, meaning in _COMPACT.items()}

_KINDS = frozenset(Kind)
_FORMS = frozenset(Form)


@dataclass(frozen=True)
class Head:
    """The fields of a block, checked, and the bytes that its CRC covers ahead of the payload."""

    kind: Kind
    size: int
    lanes: int
    payload_size: int
    raw: bytes

    @property
    def stored_size(self) -> int:
        """Bytes of the block in the archive."""
        return len(self.raw) + self.payload_size + CRC_BYTES


@dataclass(frozen=True)
class Start:
    """What the first bytes of an archive say; `head` is the only block of a compact one."""

    version: int
    fingerprint: bytes
    head: Head | None


def damaged(what: str) -> CorruptArchive:
    """The error for an archive that says something impossible; `what` is a short phrase."""
    return CorruptArchive(f"the archive is damaged ({what}): fetch or restore it again")


def varint(value: int) -> bytes:
    """Seven bits a byte, lowest first, the top bit set on all but the last: 300 -> ac 02."""
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: Bytes, at: int) -> tuple[int, int]:
    """(value, position after it). Raises IndexError where `data` ends too early, CorruptArchive if the
    number is longer than four bytes or than it has to be."""
    value = 0
    for index in range(4):
        byte = data[at + index]
        value |= (byte & 127) << 7 * index
        if byte < 128:
            if byte == 0 and index:
                raise damaged("a number is written too long")
            return value, at + index + 1
    raise damaged("a number is out of range")


def _check(kind: Kind, size: int, lanes: int, payload_size: int) -> None:
    """Raise CorruptArchive unless a writer can have meant these fields."""
    if size > kind.max_bytes:
        raise damaged(f"a block claims {size} bytes, more than any can have")
    if kind is not Kind.RAW and payload_size >= size:
        raise damaged("a block is not smaller than its content")
    if not kind.needs_model:
        return
    if not 1 <= lanes <= min(size, kind.max_lanes):
        raise damaged(f"a block of {size} bytes claims {lanes} lanes")
    if not believable(size, lanes, payload_size):
        raise damaged(f"a payload of {payload_size} bytes claims {size} bytes in {lanes} lanes")


def believable(size: int, lanes: int, payload_size: int) -> bool:
    """Whether a block under the net holds enough for the time that it takes: lzma makes what is as monotonous
    as that small, too, and at once."""
    steps = -(-size // lanes)
    return (
        size <= CLAIM_BYTES + CLAIM_BYTES_MORE * payload_size
        and steps <= CLAIM_STEPS + CLAIM_STEPS_MORE * payload_size
    )


def _fields(kind: Kind, size: int, lanes: int, payload_size: int, with_lanes: bool) -> bytes:
    out = varint(size)
    if kind is not Kind.RAW:
        out += varint(payload_size)
    return out + varint(lanes) if with_lanes else out


def _read_fields(kind: Kind, data: Bytes, begin: int, at: int, with_lanes: bool) -> Head:
    size, at = read_varint(data, at)
    payload_size, lanes = size, 1 if kind.needs_model else 0
    if kind is not Kind.RAW:
        payload_size, at = read_varint(data, at)
    if with_lanes:
        lanes, at = read_varint(data, at)
    _check(kind, size, lanes, payload_size)
    return Head(kind, size, lanes, payload_size, bytes(data[begin:at]))


def make_head(kind: Kind, size: int, lanes: int, payload_size: int) -> Head:
    """The head of a block of a full archive; `lanes` counts for blocks of the net only."""
    raw = bytes([kind]) + _fields(kind, size, lanes, payload_size, kind.needs_model)
    return Head(kind, size, lanes, payload_size, raw)


def read_head(data: Bytes, at: int = 0) -> Head | None:
    """The block head at `at`, None if `data` ends within it. Raises CorruptArchive."""
    try:
        code = data[at]
        if code not in _KINDS:
            raise damaged(f"there is no block of kind {code}")
        kind = Kind(code)
        head = _read_fields(kind, data, at, at + 1, kind.needs_model)
    except IndexError:
        return None
    if head.size == 0:
        raise damaged("a block is empty")
    return head


def read_heads(data: Bytes) -> Iterator[Head]:
    """All heads of an index. Raises CorruptArchive."""
    at = 0
    while at < len(data):
        head = read_head(data, at)
        if head is None:
            raise damaged("the index ends within an entry")
        yield head
        at += len(head.raw)


def block_crc(raw: bytes, payload: bytes, content: bytes) -> int:
    """One CRC-32 over head, payload and content: the archive's bytes and the result are checked at once."""
    return crc32(content, crc32(payload, crc32(raw)))


def block_frame(head: Head, payload: bytes, content: bytes) -> bytes:
    """A block as it stands in a full archive."""
    return head.raw + payload + block_crc(head.raw, payload, content).to_bytes(CRC_BYTES, "little")


def full_start(fingerprint: bytes) -> bytes:
    """The first 17 bytes of a full archive made with the model of that fingerprint."""
    start = MAGIC + bytes([VERSION << 4 | Form.FULL, METHOD_STATIC]) + fingerprint[:FINGERPRINT_BYTES]
    return start + crc32(start).to_bytes(CRC_BYTES, "little")


def trailer(heads: bytes, content_crc: int) -> bytes:
    """What follows the last block: the mark, all heads in order, the content's CRC-32, and the footer."""
    index = bytes([END_OF_BLOCKS]) + heads + content_crc.to_bytes(CRC_BYTES, "little")
    sized = index + len(index).to_bytes(8, "little")
    return sized + crc32(sized).to_bytes(CRC_BYTES, "little") + END_MAGIC


def compact_archive(kind: Kind, lanes: int, payload: bytes, content: bytes, fingerprint: bytes) -> bytes:
    """A whole archive of one block without index: 9 bytes around a stored block below 128 bytes, 14 around
    one that the net coded."""
    with_lanes = kind.needs_model and lanes > 1
    raw = MAGIC + bytes([VERSION << 4 | _COMPACT_FORMS[kind, with_lanes]])
    if kind.needs_model:
        raw += fingerprint[:COMPACT_FINGERPRINT_BYTES]
    raw += _fields(kind, len(content), lanes, len(payload), with_lanes)
    return raw + payload + block_crc(raw, payload, content).to_bytes(CRC_BYTES, "little")


def compact_kind(data: Bytes) -> Kind:
    """The kind of the block of a compact archive, of which at least the beginning is there."""
    return _COMPACT[Form(data[len(MAGIC)] & 15)][0]


def read_start(data: Bytes) -> Start | None:
    """The beginning of an archive, None if `data` ends within it.

    Raises NotAnArchive, ArchiveVersionError, CorruptArchive.
    """
    magic = bytes(data[: len(MAGIC)])
    if not MAGIC.startswith(magic):
        raise NotAnArchive(
            "not an archive of chunker (it does not begin with its magic bytes): check the name"
        )
    if len(data) <= len(MAGIC):
        return None
    version, form = data[len(MAGIC)] >> 4, data[len(MAGIC)] & 15
    if version == 0:
        raise damaged("it has version 0")
    if version > VERSION or form not in _FORMS:
        raise ArchiveVersionError(
            "the archive was written by a newer version of chunker: upgrade chunker to read it"
        )
    return (
        _read_full_start(data, version)
        if form == Form.FULL
        else _read_compact_start(data, version, Form(form))
    )


def _read_full_start(data: Bytes, version: int) -> Start | None:
    if len(data) < START_BYTES:
        return None
    checked = bytes(data[: START_BYTES - CRC_BYTES])
    if crc32(checked).to_bytes(CRC_BYTES, "little") != data[len(checked) : START_BYTES]:
        raise damaged("its header fails its checksum")
    if checked[len(MAGIC) + 1] != METHOD_STATIC:
        raise ArchiveVersionError("the archive uses a newer way of coding: upgrade chunker to read it")
    return Start(version, checked[-FINGERPRINT_BYTES:], None)


def _read_compact_start(data: Bytes, version: int, form: Form) -> Start | None:
    kind, with_lanes = _COMPACT[form]
    at = len(MAGIC) + 1
    fingerprint = b""
    if kind.needs_model:
        fingerprint = bytes(data[at : at + COMPACT_FINGERPRINT_BYTES])
        at += COMPACT_FINGERPRINT_BYTES
    try:
        return Start(version, fingerprint, _read_fields(kind, data, 0, at, with_lanes))
    except IndexError:
        return None
