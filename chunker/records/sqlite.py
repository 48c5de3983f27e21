"""SQL functions for SQLite: `nhc_encode(value, model)` and `nhc_decode(encoded, model)`."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import lru_cache

from chunker.errors import UsageError
from chunker.records.codec import RecordCodec


def register(
    connection: sqlite3.Connection, models: Mapping[str, RecordCodec] | None = None, *, check: int = 0
) -> None:
    """Give a connection the two functions.

    nhc_encode(value, model): TEXT or BLOB to BLOB. nhc_decode(encoded, model): back, as TEXT where the bytes
    are UTF-8 and as BLOB elsewhere; CAST makes of it what is needed. Both give NULL for NULL. The model is a
    name in `models` or the path of a file; check: as of RecordCodec, for those.

    In a statement a failure is an sqlite3.OperationalError, which does not say why:
    `sqlite3.enable_callback_tracebacks(True)` shows it.
    """
    known = dict(models or {})

    @lru_cache(maxsize=64)
    def codec(model: str) -> RecordCodec:
        return known[model] if model in known else RecordCodec(model, check=check)

    def encode(value: object, model: str) -> bytes | None:
        if value is None:
            return None
        if isinstance(value, str):
            value = value.encode()
        if not isinstance(value, bytes):
            raise UsageError("nhc_encode takes TEXT or BLOB; write CAST(.. AS TEXT)")
        return codec(model).encode(value)

    def decode(encoded: object, model: str) -> str | bytes | None:
        if encoded is None:
            return None
        if not isinstance(encoded, bytes):
            raise UsageError("nhc_decode takes the BLOB that nhc_encode gave")
        record = codec(model).decode(encoded)
        try:
            return record.decode()
        except UnicodeDecodeError:
            return record

    connection.create_function("nhc_encode", 2, encode, deterministic=True)
    connection.create_function("nhc_decode", 2, decode, deterministic=True)
