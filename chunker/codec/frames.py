"""The bytes of an archive, part by part: what a writer puts down and what a reader refuses.

FORMAT.md is the specification. An archive has one of two forms:

    compact:  magic, form, fields of its only block, payload, CRC-32            for small input
    full:     start  (block-head payload CRC-32)*  trailer             trailer: mark, heads again, checks
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from dataclasses import dataclass
from zlib import crc32

from chunker.codec import samples
from chunker.core.backend import GATE_ALWAYS, SAMPLES, Contexts, Settings
from chunker.errors import ArchiveVersionError, CorruptArchive, NotAnArchive

MAGIC = b"\xa7NH"
END_MAGIC = b"HN\xa7"
VERSION = 2
METHOD_STATIC = 0

MAX_BLOCK_BYTES = 1 << 22
FINGERPRINT_BYTES = 8
COMPACT_FINGERPRINT_BYTES = 4
NO_FINGERPRINT = bytes(FINGERPRINT_BYTES)

# What a block of the core may claim: so much, and so much more for each byte of payload.
CLAIM_BYTES, CLAIM_BYTES_MORE = 1 << 16, 1 << 12

CRC_BYTES = 4
START_BYTES = len(MAGIC) + 2 + FINGERPRINT_BYTES + CRC_BYTES
FOOTER_BYTES = 8 + CRC_BYTES + len(END_MAGIC)
END_OF_BLOCKS = 0

Bytes = bytes | bytearray | memoryview  # or whatever else offers its bytes, such as numpy's arrays


def flat(data: Bytes) -> memoryview:
    """The bytes of data that has any shape and type. Raises TypeError if it has none, or has gaps."""
    try:
        return memoryview(data).cast("B")
    except (TypeError, ValueError):
        pass  # perhaps an empty array of several dimensions, or a type that memoryview does not know
    try:
        return memoryview(b"".join((data,)))
    except TypeError:
        raise TypeError(
            f"{type(data).__name__} offers no bytes in a row: encode a str (text.encode()), copy an array "
            "with gaps (numpy.ascontiguousarray)"
        ) from None


class Kind(enum.IntEnum):
    """How a block's content became its payload; also the low half of a compact archive's fourth byte."""

    RAW = 1
    LZMA = 2
    CONTEXTS = 3  # level 0 alone
    STACK = 4  # level 0, and above it the recurrent levels of a model

    @property
    def needs_model(self) -> bool:
        """Whether a model is at work."""
        return self is Kind.STACK

    @property
    def has_settings(self) -> bool:
        """Whether the core coded it."""
        return self >= Kind.CONTEXTS


CONTEXTS_BITS = 2  # of the byte that tells contexts and sample
FULL = 0  # the low half of the fourth byte of a full archive
_KINDS = frozenset(Kind)


@dataclass(frozen=True)
class Head:
    """The fields of a block, checked, and the bytes that its CRC covers ahead of the payload.

    settings: None unless the core coded the block.
    """

    kind: Kind
    size: int
    payload_size: int
    settings: Settings | None
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


@dataclass(frozen=True)
class Coded:
    """A block after compression. settings: None unless the core coded it."""

    kind: Kind
    settings: Settings | None
    payload: bytes


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


def believable(size: int, payload_size: int) -> bool:
    """Whether a block of the core holds enough for the time that it takes: lzma makes what is as monotonous
    as that small, too, and at once."""
    return size <= CLAIM_BYTES + CLAIM_BYTES_MORE * payload_size


def _fields(kind: Kind, size: int, payload_size: int, settings: Settings | None) -> bytes:
    out = varint(size)
    if kind is not Kind.RAW:
        out += varint(payload_size)
    if settings is not None:
        out += bytes([settings.contexts | (settings.sample or 0) << CONTEXTS_BITS])
        if settings.needs_model:
            out += varint(settings.gate)
    return out


def extra_bytes(settings: Settings, size: int, *, compact: bool) -> int:
    """By how much more at most an archive grows around a block of the core than around a stored one."""
    kind = kind_of(settings)
    extra = len(_fields(kind, size, size, settings)) - len(_fields(Kind.RAW, size, size, None))
    return extra + (COMPACT_FINGERPRINT_BYTES if compact and kind.needs_model else 0)


def kind_of(settings: Settings) -> Kind:
    """The kind of a block that the core coded so."""
    return Kind.STACK if settings.needs_model else Kind.CONTEXTS


def _read_fields(kind: Kind, data: Bytes, begin: int, at: int) -> Head:
    """The head whose bytes begin at `begin`, its fields at `at`; checked before anything is done for it.

    Raises IndexError where `data` ends too early, CorruptArchive.
    """
    size, at = read_varint(data, at)
    if size > MAX_BLOCK_BYTES:
        raise damaged(f"a block claims {size} bytes, more than any can have")
    payload_size = size
    if kind is not Kind.RAW:
        payload_size, at = read_varint(data, at)
        if payload_size >= size:
            raise damaged("a block is not smaller than its content")
    settings = None
    if kind.has_settings:
        if not believable(size, payload_size):
            raise damaged(f"a payload of {payload_size} bytes claims {size} bytes")
        settings, at = _read_settings(kind, data, at)
        if size + len(samples.text(settings.sample)) > MAX_BLOCK_BYTES:
            raise damaged(f"a block claims {size} bytes behind a sample")
    return Head(kind, size, payload_size, settings, bytes(data[begin:at]))


def _read_settings(kind: Kind, data: Bytes, at: int) -> tuple[Settings, int]:
    number, sample = data[at] & (1 << CONTEXTS_BITS) - 1, data[at] >> CONTEXTS_BITS
    if number > max(Contexts):
        raise damaged(f"there is no set of contexts {number}")
    if sample > SAMPLES:
        raise damaged(f"there is no sample {sample}")
    contexts, gate = Contexts(number), 0
    at += 1
    if kind.needs_model:
        gate, at = read_varint(data, at)
        if not 1 <= gate <= GATE_ALWAYS:
            raise damaged(f"a gate of {gate} is out of range")
    return Settings(contexts, gate, sample), at


def make_head(coded: Coded, size: int) -> Head:
    """The head of a block of a full archive."""
    payload_size = len(coded.payload)
    raw = bytes([coded.kind]) + _fields(coded.kind, size, payload_size, coded.settings)
    return Head(coded.kind, size, payload_size, coded.settings, raw)


def read_head(data: Bytes, at: int = 0) -> Head | None:
    """The block head at `at`, None if `data` ends within it. Raises CorruptArchive."""
    try:
        code = data[at]
        if code not in _KINDS:
            raise damaged(f"there is no block of kind {code}")
        head = _read_fields(Kind(code), data, at, at + 1)
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
    """The first 17 bytes of a full archive made with the model of that fingerprint, or NO_FINGERPRINT."""
    start = MAGIC + bytes([VERSION << 4 | FULL, METHOD_STATIC]) + fingerprint[:FINGERPRINT_BYTES]
    return start + crc32(start).to_bytes(CRC_BYTES, "little")


def trailer(heads: bytes, content_crc: int) -> bytes:
    """What follows the last block: the mark, all heads in order, the content's CRC-32, and the footer."""
    index = bytes([END_OF_BLOCKS]) + heads + content_crc.to_bytes(CRC_BYTES, "little")
    sized = index + len(index).to_bytes(8, "little")
    return sized + crc32(sized).to_bytes(CRC_BYTES, "little") + END_MAGIC


def compact_archive(coded: Coded, content: bytes, fingerprint: bytes) -> bytes:
    """A whole archive of one block without index: 9 bytes around a stored block below 128 bytes, 11 around
    one of contexts, 17 around one of a stack."""
    raw = MAGIC + bytes([VERSION << 4 | coded.kind])
    if coded.kind.needs_model:
        raw += fingerprint[:COMPACT_FINGERPRINT_BYTES]
    raw += _fields(coded.kind, len(content), len(coded.payload), coded.settings)
    return raw + coded.payload + block_crc(raw, coded.payload, content).to_bytes(CRC_BYTES, "little")


def compact_kind(data: Bytes) -> Kind:
    """The kind of the block of a compact archive, of which at least the beginning is there."""
    return Kind(data[len(MAGIC)] & 15)


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
    if version < VERSION:
        raise ArchiveVersionError(
            "the archive was made by an unreleased version of chunker: compress the original again"
        )
    if version > VERSION or (form != FULL and form not in _KINDS):
        raise ArchiveVersionError(
            "the archive was written by a newer version of chunker: upgrade chunker to read it"
        )
    return _read_full_start(data) if form == FULL else _read_compact_start(data, Kind(form))


def _read_full_start(data: Bytes) -> Start | None:
    if len(data) < START_BYTES:
        return None
    checked = bytes(data[: START_BYTES - CRC_BYTES])
    if crc32(checked).to_bytes(CRC_BYTES, "little") != data[len(checked) : START_BYTES]:
        raise damaged("its header fails its checksum")
    if checked[len(MAGIC) + 1] != METHOD_STATIC:
        raise ArchiveVersionError("the archive uses a newer way of coding: upgrade chunker to read it")
    return Start(VERSION, checked[-FINGERPRINT_BYTES:], None)


def _read_compact_start(data: Bytes, kind: Kind) -> Start | None:
    at = len(MAGIC) + 1
    fingerprint = b""
    if kind.needs_model:
        fingerprint = bytes(data[at : at + COMPACT_FINGERPRINT_BYTES])
        at += COMPACT_FINGERPRINT_BYTES
    try:
        return Start(VERSION, fingerprint, _read_fields(kind, data, 0, at))
    except IndexError:
        return None
