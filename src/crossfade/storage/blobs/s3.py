"""Blobs in a bucket of S3 or a compatible store, under `<prefix>/sha256/ab/<digest>`.

The digest of an upload is known only at its end, so it is first spooled to an unnamed local file. An object appears
complete or not at all, and `If-None-Match: *` keeps two writers from replacing each other's.

Every upload carries SHA-256 checksums, which the store verifies and keeps: of the whole object, or, when it was sent in
parts, the checksum of the parts' checksums. Comparing that tells good bytes from bad without downloading them.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
from base64 import b64encode
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Any, BinaryIO, NamedTuple, Self

import boto3.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from crossfade.core.hashing import is_digest, sha256
from crossfade.errors import (
    BlobNotFoundError,
    BlobsUnavailableError,
    BodyTooLargeError,
    CorruptBlobError,
    CrossfadeError,
    SettingsError,
    StorageFullError,
)
from crossfade.settings import Settings
from crossfade.storage.blobs.port import Blob

PART_BYTES = 64 * 2**20
"""Larger objects are sent in parts of this size. S3 takes 10,000 parts, so 625 GiB."""

_CHUNK = 1 << 20
_COPY_LIMIT = 5 * 10**9  # S3 copies no larger object in one request
_ATTEMPTS = 3
_READ_SECONDS = 30
_MISSING = {"404", "NoSuchKey", "NotFound"}
_COMBINED = "crossfade-combined-checksum"
_NO_UPLOAD = {"404", "NoSuchUpload"}
_RACE = {"412", "PreconditionFailed", "409", "ConditionalRequestConflict"}
_NO_SPACE = {"507", "XMinioStorageFull", "XMinioBucketQuotaExceeded", "QuotaExceeded", "InsufficientStorage"}


class _Upload(NamedTuple):
    """A spooled upload, and the digests of the parts that it is sent in if it is large."""

    body: BinaryIO
    digest: str
    size: int
    parts: Sequence[bytes]

    @property
    def combined(self) -> str:
        """What S3 computes for these bytes when they are sent in parts."""
        return _base64(hashlib.sha256(b"".join(self.parts)).digest())

    def checksums(self) -> set[str]:
        """Return what S3 computes for these bytes, sent whole and sent in parts."""
        return {_base64(bytes.fromhex(self.digest)), self.combined}


class S3BlobStore:
    """A blob store in a bucket, which must exist.

    Args:
        bucket: Its name.
        prefix: What the keys start with; empty for the whole bucket.
        endpoint_url: An S3-compatible server; empty for AWS.
        access_key_id: Empty for the AWS credential chain.
        secret_access_key: Empty for the AWS credential chain.
        region: Of the bucket.

    Example:
        >>> store = S3BlobStore("models", "crossfade")  # doctest: +SKIP
        >>> store.put([b"hello"], limit_bytes=100).size  # doctest: +SKIP
        5
    """

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        endpoint_url: str = "",
        access_key_id: str = "",
        secret_access_key: str = "",
        region: str = "us-east-1",
    ) -> None:
        self.bucket = bucket
        self.where = f"s3://{bucket}"
        self._keys = f"{prefix.strip('/')}/sha256/".lstrip("/")
        config = Config(
            connect_timeout=5,
            read_timeout=_READ_SECONDS,
            retries={"mode": "standard", "total_max_attempts": _ATTEMPTS},
            max_pool_connections=32,
            # Servers of one's own seldom have a host name per bucket.
            s3={"addressing_style": "path" if endpoint_url else "auto"},
        )
        with self._translated():
            # Its own session: boto3's default one is not safe to use from several threads.
            self._client: Any = boto3.session.Session().client(
                "s3",
                endpoint_url=endpoint_url or None,
                aws_access_key_id=access_key_id or None,
                aws_secret_access_key=secret_access_key or None,
                region_name=region,
                config=config,
            )

    @classmethod
    def from_url(cls, url: str, settings: Settings) -> Self:
        """Open the bucket that `s3://bucket/prefix` names, with the endpoint and credentials of the settings.

        Raises:
            SettingsError: The URL names no bucket.
        """
        bucket, _, prefix = url.removeprefix("s3://").partition("/")
        if not bucket:
            raise SettingsError(field="storage.blobs_url", problem="write `s3://bucket/prefix`")
        storage = settings.storage
        return cls(
            bucket,
            prefix,
            endpoint_url=storage.s3_endpoint_url,
            access_key_id=storage.s3_access_key_id,
            secret_access_key=storage.s3_secret_access_key.get_secret_value(),
            region=storage.s3_region,
        )

    def put(self, chunks: Iterable[bytes], *, limit_bytes: int, expected: str | None = None) -> Blob:
        """Store bytes durably under their digest; see `BlobStore.put`."""
        with tempfile.TemporaryFile() as spool:
            upload = _spool(spool, chunks, limit_bytes)
            if expected is not None and upload.digest != expected:
                damage = f"{upload.digest} instead"
                raise CorruptBlobError(digest=expected, path="bytes", ref="this upload", damage=damage)
            with self._translated():
                return self._store(upload)

    def find(self, digest: str) -> Blob | None:
        """Return what is known about a digest; see `BlobStore.find`."""
        with self._translated():
            found = self._head(digest) if is_digest(digest) else None
        return None if found is None else _blob(digest, found["ContentLength"], found)

    def find_intact(self, digest: str) -> Blob | None:
        """Return what is known about a digest whose bytes are good; see `BlobStore.find_intact`."""
        with self._translated(), contextlib.suppress(BlobNotFoundError):  # deleted since it was found
            found = self._head(digest) if is_digest(digest) else None
            if found is None:
                return None
            # What was sent in parts has a checksum of checksums; what it must be is noted beside the bytes.
            good = {_base64(bytes.fromhex(digest)), found.get("Metadata", {}).get(_COMBINED)}
            if found.get("ChecksumSHA256", "").partition("-")[0] in good or self._hashes_to(digest):
                return _blob(digest, found["ContentLength"], found)
        return None

    def open(self, digest: str) -> BinaryIO:
        """Return a readable stream; see `BlobStore.open`."""
        if not is_digest(digest):
            raise BlobNotFoundError(digest=digest[:80])
        with self._translated():
            try:
                answer = self._client.get_object(Bucket=self.bucket, Key=self._key(digest))
            except ClientError as error:
                if _code(error) in _MISSING:
                    raise BlobNotFoundError(digest=digest) from error
                raise
        return io.BufferedReader(_Stream(answer["Body"], self), _CHUNK)

    def read(self, digest: str) -> bytes:
        """Return the verified bytes; see `BlobStore.read`."""
        with self.open(digest) as stream:
            data = stream.read()
        if sha256(data) != digest:
            raise CorruptBlobError(digest=digest, path="bytes", ref=self.where, damage="damaged")
        return data

    def delete(self, digest: str) -> bool:
        """Delete a blob; see `BlobStore.delete`."""
        with self._translated():
            if not is_digest(digest) or self._head(digest) is None:
                return False
            self._client.delete_object(Bucket=self.bucket, Key=self._key(digest))
        return True

    def list(self) -> Iterator[Blob]:
        """Yield every blob in the order of digests; see `BlobStore.list`."""
        pages = iter(self._client.get_paginator("list_objects_v2").paginate(Bucket=self.bucket, Prefix=self._keys))
        while True:
            with self._translated():
                page = next(pages, None)
            if page is None:
                return
            for entry in page.get("Contents", ()):
                digest = entry["Key"].rpartition("/")[2]
                if is_digest(digest) and entry["Key"] == self._key(digest):
                    yield _blob(digest, entry["Size"], entry)

    def sweep_unfinished(self, older_than: datetime) -> int:
        """Abort uploads in parts that were begun before then; see `BlobStore.sweep_unfinished`."""
        removed = 0
        pages = iter(self._client.get_paginator("list_multipart_uploads").paginate(Bucket=self.bucket))
        while True:
            with self._translated():
                page = next(pages, None)
            if page is None:
                return removed
            # The bucket may hold uploads of others. (Asking for a prefix is less portable than looking at the keys.)
            for entry in page.get("Uploads", ()):
                if entry["Key"].startswith(self._keys) and entry["Initiated"] < older_than:
                    removed += self._abort(entry["Key"], entry["UploadId"])

    def close(self) -> None:
        """Close the connections; see `BlobStore.close`."""
        self._client.close()

    def _store(self, upload: _Upload) -> Blob:
        for _ in range(_ATTEMPTS):
            found = self._head(upload.digest)
            try:
                if found is None:
                    self._upload(upload, IfNoneMatch="*")
                elif not self._is_good(upload, found):
                    self._upload(upload)
                else:
                    self._renew(upload)
            except ClientError as error:
                # Somebody stored it, or deleted it, since we looked.
                if _code(error) not in _RACE | _MISSING:
                    raise
            if (blob := self.find(upload.digest)) is not None and blob.size == upload.size:
                return blob
        raise BlobsUnavailableError(problem=f"{self.where}: blob {upload.digest} changes all the time")

    def _is_good(self, upload: _Upload, found: dict[str, Any]) -> bool:
        if found["ContentLength"] != upload.size:
            return False
        checksum = found.get("ChecksumSHA256")
        if checksum is not None:
            # S3 appends the number of parts after a hyphen, other servers do not.
            return checksum.partition("-")[0] in upload.checksums()
        # Not written by us, or the server keeps no checksums.
        return self._hashes_to(upload.digest)

    def _hashes_to(self, digest: str) -> bool:
        hashed = hashlib.sha256()
        with self.open(digest) as stream:
            while chunk := stream.read(_CHUNK):
                hashed.update(chunk)
        return hashed.hexdigest() == digest

    def _renew(self, upload: _Upload) -> None:
        """Renew the time of a good blob. S3 changes it only by writing, so the server copies the object onto itself."""
        if upload.size > _COPY_LIMIT:
            self._upload(upload)
            return
        key = self._key(upload.digest)
        self._client.copy_object(
            Bucket=self.bucket,
            Key=key,
            CopySource={"Bucket": self.bucket, "Key": key},
            ChecksumAlgorithm="SHA256",
            MetadataDirective="REPLACE",  # S3 refuses to copy an object onto itself unless something is replaced
        )

    def _upload(self, upload: _Upload, **condition: str) -> None:
        target = {"Bucket": self.bucket, "Key": self._key(upload.digest)}
        upload.body.seek(0)
        if upload.size <= PART_BYTES:
            checksum = _base64(bytes.fromhex(upload.digest))
            self._client.put_object(**target, Body=upload.body, **_checked(checksum), **condition)
            return
        noted = {"Metadata": {_COMBINED: upload.combined}, "ChecksumAlgorithm": "SHA256"}
        begun = self._client.create_multipart_upload(**target, **noted)
        target["UploadId"] = begun["UploadId"]
        try:
            parts = [
                self._upload_part(target, number, upload.body.read(PART_BYTES), digest)
                for number, digest in enumerate(upload.parts, start=1)
            ]
            self._client.complete_multipart_upload(**target, MultipartUpload={"Parts": parts}, **condition)
        except BaseException:
            # Parts of an upload that is neither completed nor aborted are paid for until somebody notices.
            with contextlib.suppress(ClientError, BotoCoreError):
                self._client.abort_multipart_upload(**target)
            raise

    def _upload_part(self, target: dict[str, str], number: int, data: bytes, digest: bytes) -> dict[str, Any]:
        checksum = _base64(digest)
        sent = self._client.upload_part(**target, PartNumber=number, Body=data, **_checked(checksum))
        return {"PartNumber": number, "ChecksumSHA256": checksum, "ETag": sent["ETag"]}

    def _abort(self, key: str, upload: str) -> bool:
        with self._translated():
            try:
                self._client.abort_multipart_upload(Bucket=self.bucket, Key=key, UploadId=upload)
            except ClientError as error:
                if _code(error) not in _NO_UPLOAD:
                    raise
                return False  # it was completed or aborted since it was listed
        return True

    def _head(self, digest: str) -> dict[str, Any] | None:
        try:
            found: dict[str, Any] = self._client.head_object(
                Bucket=self.bucket, Key=self._key(digest), ChecksumMode="ENABLED"
            )
        except ClientError as error:
            if _code(error) in _MISSING:
                return None
            raise
        return found

    def _key(self, digest: str) -> str:
        return f"{self._keys}{digest[:2]}/{digest}"

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        except ClientError as error:
            raise self._unavailable(error, _code(error)) from error
        except BotoCoreError as error:
            raise self._unavailable(error, "") from error

    def _unavailable(self, error: Exception, code: str) -> CrossfadeError:
        if code in _NO_SPACE:
            return StorageFullError(where=self.where)
        return BlobsUnavailableError(problem=f"{self.where}: {error}")


class _Stream(io.RawIOBase):
    """A response body as a Python stream; boto3's own raises its own errors while it is read."""

    def __init__(self, body: Any, store: S3BlobStore) -> None:
        self._body = body
        self._store = store

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        with self._store._translated():
            data = self._body.read(len(buffer))
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._body.close()
        super().close()


def _spool(spool: BinaryIO, chunks: Iterable[bytes], limit_bytes: int) -> _Upload:
    hashed, size = hashlib.sha256(), 0
    for chunk in chunks:
        size += len(chunk)
        if size > limit_bytes:
            raise BodyTooLargeError(limit_bytes=limit_bytes)
        hashed.update(chunk)
        with _full_disk():
            spool.write(chunk)
    with _full_disk():
        spool.seek(0)  # writes out what is buffered
    parts = []
    while size > PART_BYTES and (data := spool.read(PART_BYTES)):
        parts.append(hashlib.sha256(data).digest())
    return _Upload(spool, hashed.hexdigest(), size, parts)


@contextlib.contextmanager
def _full_disk() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StorageFullError(where=tempfile.gettempdir()) from error


def _blob(digest: str, size: int, answer: dict[str, Any]) -> Blob:
    return Blob(digest=digest, size=size, stored_at=answer["LastModified"])


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code", ""))


def _checked(checksum: str) -> dict[str, str]:
    # The checksum alone would do for S3; other servers keep it only when the algorithm is named too.
    return {"ChecksumAlgorithm": "SHA256", "ChecksumSHA256": checksum}


def _base64(digest: bytes) -> str:
    return b64encode(digest).decode()
