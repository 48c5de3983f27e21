"""Sources and targets at s3://, in a server of moto on this machine."""

from __future__ import annotations

from ipaddress import IPv4Address
from socket import INADDR_LOOPBACK

import pytest
from cli_support import TEXT, call, one_line

import chunker
from chunker.cli.compress import compress
from chunker.cli.decompress import decompress
from chunker.cli.main import chunker as group
from chunker.cli.test import test as check

pytest.importorskip("fsspec")
s3fs = pytest.importorskip("s3fs")
server = pytest.importorskip("moto.server")

PART = 5 << 20  # the least that S3 takes
LONG = bytes(PART + 1000)  # in two parts


@pytest.fixture(scope="module")
def address():
    running = server.ThreadedMotoServer(str(IPv4Address(INADDR_LOOPBACK)), 0, verbose=False)
    running.start()
    yield "{}://{}:{}".format("http", *running.get_host_and_port())
    running.stop()


@pytest.fixture
def s3(address, monkeypatch):
    """What is there, uncached; a bucket with one file in it."""
    for name, value in {
        "AWS_ENDPOINT_URL": address,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(s3fs.S3FileSystem, "default_block_size", PART)
    monkeypatch.setattr(s3fs.S3FileSystem, "retries", 1)
    system = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
    system.mkdir("bucket")
    system.pipe("bucket/a.txt", TEXT)
    yield system
    system.rm("bucket", recursive=True)


@pytest.fixture(scope="module")
def long_archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("s3") / "long.nhc"
    path.write_bytes(chunker.compress(LONG))
    return str(path)


def uploads(s3):
    """Those that were begun, and neither completed nor given up: no listing shows them, and they cost."""
    return s3.call_s3("list_multipart_uploads", Bucket="bucket").get("Uploads", [])


def fail(monkeypatch, *operations):
    """Let these operations of S3 fail."""
    before = s3fs.core.S3File._call_s3

    def call_s3(self, method, *arguments, **named):
        if method in operations:
            raise OSError("the line is cut")
        return before(self, method, *arguments, **named)

    monkeypatch.setattr(s3fs.core.S3File, "_call_s3", call_s3)


def test_there_and_back(s3):
    call(compress, "s3://bucket/a.txt")
    assert s3.cat("bucket/a.txt.nhc") == chunker.compress(TEXT)
    assert ", OK" in call(check, "s3://bucket/a.txt.nhc").stdout
    call(decompress, "s3://bucket/a.txt.nhc", "-o", "s3://bucket/b.txt")
    assert s3.cat("bucket/b.txt") == TEXT
    assert chunker.frame_info("s3://bucket/a.txt.nhc").bytes_in == len(TEXT)


def test_in_parts(s3, long_archive):
    call(decompress, long_archive, "-o", "s3://bucket/long")
    assert s3.cat("bucket/long") == LONG
    assert not uploads(s3)


@pytest.mark.parametrize("operation", ["create_multipart_upload", "upload_part", "complete_multipart_upload"])
def test_of_an_upload_that_fails_nothing_is_left(s3, long_archive, monkeypatch, operation):
    fail(monkeypatch, operation)
    stderr = call(decompress, long_archive, "-o", "s3://bucket/long", code=1).stderr
    assert "s3://bucket/long: the line is cut" in one_line(stderr.encode())
    assert not s3.exists("bucket/long")
    assert not uploads(s3)


def test_of_an_upload_that_is_interrupted_nothing_is_left(s3, long_archive, monkeypatch):
    upload, parts = s3fs.core.S3File._upload_chunk, []

    def interrupted(self, final=False):
        parts.append(final)
        upload(self, final)
        if len(parts) == 1:
            raise KeyboardInterrupt

    monkeypatch.setattr(s3fs.core.S3File, "_upload_chunk", interrupted)
    call(group, "decompress", long_archive, "-o", "s3://bucket/long", code=130)
    assert parts[0] is False  # not the last one
    assert not s3.exists("bucket/long")
    assert not uploads(s3)


def test_what_is_there_stays_where_the_new_one_fails(s3, monkeypatch):
    s3.pipe("bucket/a.txt.nhc", b"as it was")
    fail(monkeypatch, "upload_part")
    call(compress, "s3://bucket/a.txt", "-f", code=1)
    assert s3.cat("bucket/a.txt.nhc") == b"as it was"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["s3://bucket/none"], "s3://bucket/none: No such file"),
        (["s3://nowhere/a"], "bucket does not exist"),
        (
            ["s3://bucket/a.txt", "-o", "s3://nowhere/a"],
            "s3://nowhere/a: The specified bucket does",
        ),
        (["s3://bucket"], "s3://bucket: "),
    ],
)
def test_failures_are_one_line(s3, arguments, told):
    assert told in one_line(call(compress, *arguments, code=1).stderr.encode())


def test_without_credentials(s3, monkeypatch, tmp_path):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert "credentials" in one_line(call(compress, "s3://bucket/a.txt", code=1).stderr.encode())


def test_without_a_server(s3, monkeypatch, address):
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"{address.rpartition(':')[0]}:9")
    assert "Could not connect" in one_line(call(compress, "s3://bucket/a.txt", code=1).stderr.encode())
