"""What is particular to the S3 blob store; what every store promises is in `crossfade.testing.blobs`."""

import hashlib
import io
import secrets
import socket
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest
from botocore.exceptions import ClientError, IncompleteReadError
from botocore.response import StreamingBody

import crossfade.storage.blobs.s3
from crossfade.errors import BlobsUnavailableError, SettingsError, StorageFullError
from crossfade.settings import Settings, StorageSettings
from crossfade.storage.blobs.backends import open_blobs
from crossfade.storage.blobs.s3 import S3BlobStore
from tests.servers import free_port

LIMIT = 10**9
PART = 5 * 2**20  # the least that S3 takes


@pytest.fixture
def store(s3_settings):
    store = open_blobs(Settings(storage=s3_settings))
    yield store
    store.close()


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr(crossfade.storage.blobs.s3, "PART_BYTES", PART)


def put(store, data: bytes) -> str:
    return store.put([data], limit_bytes=LIMIT).digest


class Calls:
    """Records which operations the client is asked for, and can go between."""

    def __init__(self, store, monkeypatch, **between):
        self.names = []
        real = store._client._make_api_call

        def call(operation, arguments):
            self.names.append(operation)
            if operation in between:
                between[operation](arguments)
            return real(operation, arguments)

        monkeypatch.setattr(store._client, "_make_api_call", call)


def refuse(code: str, status: int = 400):
    def between(_arguments):
        raise ClientError({"Error": {"Code": code}, "ResponseMetadata": {"HTTPStatusCode": status}}, "Operation")

    return between


# --- URLs


@pytest.mark.parametrize(
    ("url", "bucket", "key"),
    [
        ("s3://bucket", "bucket", "sha256/aa/"),
        ("s3://bucket/", "bucket", "sha256/aa/"),
        ("s3://bucket/a/b", "bucket", "a/b/sha256/aa/"),
        ("s3://bucket//a/b//", "bucket", "a/b/sha256/aa/"),
    ],
)
def test_a_url_names_bucket_and_prefix(url, bucket, key):
    store = S3BlobStore.from_url(url, Settings(storage=StorageSettings(blobs_url=url)))
    assert store.bucket == bucket
    assert store._key("a" * 64) == key + "a" * 64
    store.close()


def test_a_url_without_a_bucket_is_refused():
    with pytest.raises(SettingsError, match="s3://bucket/prefix"):
        open_blobs(Settings(storage=StorageSettings(blobs_url="s3:///prefix")))


def test_an_endpoint_that_is_no_url_is_unavailable():
    with pytest.raises((BlobsUnavailableError, ValueError)):
        S3BlobStore("bucket", endpoint_url="not a url")


def test_prefixes_in_one_bucket_are_apart(s3_settings, store):
    digest = put(store, b"mine")
    root = s3_settings.blobs_url.removesuffix("/prefix")
    for url in (root, f"{root}/prefix2", f"{root}/prefi"):
        other = open_blobs(Settings(storage=s3_settings.model_copy(update={"blobs_url": url})))
        assert other.find(digest) is None
        assert list(other.list()) == []
        put(other, b"theirs")
        other.close()
    store._client.put_object(Bucket=store.bucket, Key=f"{store._keys}notes.txt", Body=b"x")
    store._client.put_object(Bucket=store.bucket, Key=f"{store._keys}zz/{digest}", Body=b"misplaced")
    assert [blob.digest for blob in store.list()] == [digest]


# --- uploads


def test_a_new_blob_never_replaces_another_and_is_checked_by_the_server(store, monkeypatch):
    seen = []
    calls = Calls(store, monkeypatch, PutObject=seen.append)
    put(store, b"hello")
    (arguments,) = seen
    assert arguments["IfNoneMatch"] == "*"
    assert arguments["ChecksumSHA256"] == "LPJNul+wow4m6DsqxbninhsWHlwfp0JecwQzYpOLmCQ="
    assert calls.names == ["HeadObject", "PutObject", "HeadObject"]


def test_a_known_blob_is_not_sent_again(store, monkeypatch):
    put(store, b"hello")
    calls = Calls(store, monkeypatch)
    put(store, b"hello")
    assert calls.names == ["HeadObject", "CopyObject", "HeadObject"]


def test_a_known_blob_that_is_too_large_to_copy_is_sent_again(store, monkeypatch):
    put(store, b"hello")
    monkeypatch.setattr(crossfade.storage.blobs.s3, "_COPY_LIMIT", 1)
    calls = Calls(store, monkeypatch)
    put(store, b"hello")
    assert calls.names == ["HeadObject", "PutObject", "HeadObject"]


def without_checksum(real):
    """Answer as a server does that keeps no checksums."""
    return lambda **options: {name: value for name, value in real(**options).items() if name != "ChecksumSHA256"}


def test_an_object_without_checksum_is_read_to_be_sure(store, monkeypatch):
    for stored, sent in ((b"hello", "CopyObject"), (b"hallo", "PutObject")):
        key = store._key(hashlib.sha256(b"hello").hexdigest())
        store._client.put_object(Bucket=store.bucket, Key=key, Body=stored)
        with monkeypatch.context() as patched:
            patched.setattr(store._client, "head_object", without_checksum(store._client.head_object))
            calls = Calls(store, patched)
            assert store.read(put(store, b"hello")) == b"hello"
        assert calls.names[:3] == ["HeadObject", "GetObject", sent]


@pytest.mark.parametrize("size", [PART, PART + 1, 2 * PART, 2 * PART + 12_345])
def test_a_large_blob_is_sent_in_parts(store, monkeypatch, small_parts, size):
    calls = Calls(store, monkeypatch)
    data = secrets.token_bytes(size)
    digest = put(store, data)
    assert store.read(digest) == data
    assert calls.names.count("UploadPart") == (0 if size == PART else -(-size // PART))
    calls.names.clear()
    assert put(store, data) == digest  # sent in parts or copied whole, its checksum is recognised
    assert put(store, data) == digest
    assert "PutObject" not in calls.names
    assert "UploadPart" not in calls.names
    assert "GetObject" not in calls.names


def test_a_bad_large_blob_is_replaced(store, small_parts):
    data = secrets.token_bytes(PART + 100)
    digest = put(store, data)
    store._client.put_object(Bucket=store.bucket, Key=store._key(digest), Body=bytes(len(data)))
    assert put(store, data) == digest
    assert store.read(digest) == data


def test_the_checksum_of_parts_is_what_s3_computes(small_parts):
    data = bytes(PART) + b"end"
    upload = crossfade.storage.blobs.s3._spool(io.BytesIO(), [data], LIMIT)
    parts = hashlib.sha256(bytes(PART)).digest() + hashlib.sha256(b"end").digest()
    whole, combined = crossfade.storage.blobs.s3._base64(hashlib.sha256(data).digest()), hashlib.sha256(parts).digest()
    assert upload.checksums() == {whole, crossfade.storage.blobs.s3._base64(combined)}


def test_the_number_of_parts_behind_a_checksum_is_left_out(store, monkeypatch, small_parts):
    data = secrets.token_bytes(PART + 1)
    put(store, data)
    real = store._client.head_object

    def as_s3_answers(**options):
        found = real(**options)
        return {**found, "ChecksumSHA256": found["ChecksumSHA256"] + "-2"}

    monkeypatch.setattr(store._client, "head_object", as_s3_answers)
    calls = Calls(store, monkeypatch)
    put(store, data)
    assert calls.names == ["HeadObject", "CopyObject", "HeadObject"]


@pytest.mark.parametrize("operation", ["UploadPart", "CompleteMultipartUpload"])
def test_a_failed_upload_in_parts_is_aborted(store, monkeypatch, small_parts, operation):
    with monkeypatch.context() as patched:
        calls = Calls(store, patched, **{operation: refuse("InternalError", 500)})
        with pytest.raises(BlobsUnavailableError):
            put(store, bytes(PART + 1))
        assert calls.names[-1] == "AbortMultipartUpload"
    assert store._client.list_multipart_uploads(Bucket=store.bucket).get("Uploads", []) == []
    assert list(store.list()) == []


def test_a_blob_sent_in_parts_is_found_intact_without_reading_it(store, monkeypatch, small_parts):
    digest = put(store, bytes(PART + 1))
    other = put(store, b"x" * (PART + 1))
    calls = Calls(store, monkeypatch)
    assert store.find_intact(digest).size == PART + 1
    assert calls.names == ["HeadObject"]
    noted = store._head(digest)["Metadata"]
    source = {"Bucket": store.bucket, "Key": store._key(other)}
    target = {"Bucket": store.bucket, "Key": store._key(digest), "ChecksumAlgorithm": "SHA256", "Metadata": noted}
    store._client.copy_object(CopySource=source, MetadataDirective="REPLACE", **target)
    assert store.find_intact(digest) is None, "a note that was copied to other bytes says nothing"


def test_uploads_of_others_and_young_ones_are_not_aborted(store, monkeypatch):
    now = datetime.now(UTC)
    ours, old = store._key("a" * 64), now - timedelta(hours=2)
    uploads = [("old", ours, old), ("young", ours, now), ("foreign", "other/sha256/aa/x", old), ("gone", ours, old)]
    listed = [{"Key": key, "UploadId": name, "Initiated": moment} for name, key, moment in uploads]
    aborted = []

    class Paginator:
        def paginate(self, **_options):
            return [{"Uploads": listed[:1]}, {"Uploads": listed[1:]}, {}]

    def abort(UploadId, **_options):  # noqa: N803 - boto3's name
        if UploadId == "gone":
            refuse("NoSuchUpload", 404)(None)
        aborted.append(UploadId)

    monkeypatch.setattr(store._client, "get_paginator", lambda operation: Paginator())
    monkeypatch.setattr(store._client, "abort_multipart_upload", abort)
    assert store.sweep_unfinished(now - timedelta(hours=1)) == 1
    assert aborted == ["old"]


def test_an_abort_that_fails_does_not_hide_why(store, monkeypatch, small_parts):
    Calls(store, monkeypatch, UploadPart=refuse("XMinioStorageFull", 507), AbortMultipartUpload=refuse("AccessDenied"))
    with pytest.raises(StorageFullError):
        put(store, bytes(PART + 1))


# --- races


@pytest.mark.parametrize("size", [5, PART + 1])
def test_two_writers_of_the_same_both_succeed(store, monkeypatch, small_parts, size):
    data = bytes(size)
    first = []

    def meanwhile(_arguments):
        if not first:
            first.append(True)
            store._client.put_object(Bucket=store.bucket, Key=key, Body=data, ChecksumAlgorithm="SHA256")

    key = store._key(hashlib.sha256(data).hexdigest())
    Calls(store, monkeypatch, **{"PutObject" if size == 5 else "CompleteMultipartUpload": meanwhile})
    assert store.read(put(store, data)) == data


def test_a_blob_that_is_deleted_while_it_is_renewed_is_stored(store, monkeypatch):
    digest = put(store, b"hello")

    def meanwhile(_arguments):
        store._client.delete_object(Bucket=store.bucket, Key=store._key(digest))

    calls = Calls(store, monkeypatch, CopyObject=meanwhile)
    assert put(store, b"hello") == digest
    assert calls.names.count("PutObject") == 1
    assert store.read(digest) == b"hello"


@pytest.mark.parametrize("code", ["PreconditionFailed", "ConditionalRequestConflict"])
def test_a_race_without_end_is_given_up(store, monkeypatch, code):
    Calls(store, monkeypatch, PutObject=refuse(code))
    with pytest.raises(BlobsUnavailableError, match="all the time"):
        put(store, b"hello")


# --- when the store fails


def uses(store):
    return {
        "put": lambda: put(store, b"hello"),
        "find": lambda: store.find("a" * 64),
        "open": lambda: store.open("a" * 64),
        "read": lambda: store.read("a" * 64),
        "delete": lambda: store.delete("a" * 64),
        "list": lambda: list(store.list()),
    }


@pytest.mark.parametrize("use", ["put", "find", "open", "read", "delete", "list"])
def test_nobody_listens_there(use):
    store = S3BlobStore(
        "bucket", endpoint_url=f"http://127.0.0.1:{free_port()}", access_key_id="a", secret_access_key="hidden"
    )
    with pytest.raises(BlobsUnavailableError) as raised:
        uses(store)[use]()
    assert "hidden" not in str(raised.value)
    store.close()


@pytest.mark.parametrize("use", ["put", "list"])
def test_a_bucket_that_does_not_exist_is_unavailable(s3_settings, use):
    elsewhere = s3_settings.model_copy(update={"blobs_url": "s3://no-such-bucket/x"})
    store = open_blobs(Settings(storage=elsewhere))
    with pytest.raises(BlobsUnavailableError, match=r"NoSuchBucket|all the time"):
        uses(store)[use]()
    store.close()


@pytest.mark.parametrize("use", ["put", "find", "open", "read", "delete", "list"])
def test_a_refusal_is_unavailable(store, monkeypatch, use):
    denied = dict.fromkeys(("HeadObject", "GetObject", "ListObjectsV2"), refuse("AccessDenied", 403))
    Calls(store, monkeypatch, **denied)
    with pytest.raises(BlobsUnavailableError, match="AccessDenied"):
        uses(store)[use]()


@pytest.mark.parametrize("code", ["XMinioStorageFull", "QuotaExceeded", "507"])
def test_a_full_store_is_said_to_be_full(store, monkeypatch, code):
    Calls(store, monkeypatch, PutObject=refuse(code))
    with pytest.raises(StorageFullError) as raised:
        put(store, b"hello")
    assert raised.value.facts["where"] == store.where


def test_a_full_local_disk_is_said_to_be_full(store, monkeypatch):
    class Full(io.BytesIO):
        def write(self, _):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(crossfade.storage.blobs.s3.tempfile, "TemporaryFile", Full)
    with pytest.raises(StorageFullError):
        put(store, b"hello")


def test_a_body_that_breaks_off_is_unavailable(store, monkeypatch):
    digest = put(store, b"hello")
    half = StreamingBody(io.BytesIO(b"hel"), 5)
    monkeypatch.setattr(store._client, "get_object", lambda **_: {"Body": half})
    with pytest.raises(BlobsUnavailableError) as raised:
        store.read(digest)
    assert isinstance(raised.value.__cause__, IncompleteReadError)


def test_a_server_that_accepts_and_says_nothing_is_given_up(monkeypatch):
    monkeypatch.setattr(crossfade.storage.blobs.s3, "_READ_SECONDS", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        store = S3BlobStore(
            "bucket",
            endpoint_url=f"http://127.0.0.1:{silent.getsockname()[1]}",
            access_key_id="a",
            secret_access_key="b",
        )
        began = time.monotonic()
        with pytest.raises(BlobsUnavailableError):
            store.find("a" * 64)
        assert time.monotonic() - began < 20
        store.close()


def test_reading_from_several_threads(store):
    data = {put(store, payload): payload for payload in (secrets.token_bytes(100_000) for _ in range(4))}
    errors = []

    def read(digest):
        try:
            for _ in range(5):
                assert store.read(digest) == data[digest]
        except BaseException as error:  # noqa: BLE001 - whatever it is belongs in the test's report
            errors.append(error)

    threads = [threading.Thread(target=read, args=(digest,)) for digest in data for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_more_blobs_than_one_page(store, monkeypatch):
    digests = sorted(put(store, str(number).encode()) for number in range(7))
    real = store._client.get_paginator

    class Paged:
        def paginate(self, **options):
            return real("list_objects_v2").paginate(**options, PaginationConfig={"PageSize": 3})

    monkeypatch.setattr(store._client, "get_paginator", lambda _: Paged())
    assert [blob.digest for blob in store.list()] == digests
