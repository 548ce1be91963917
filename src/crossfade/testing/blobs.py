"""The specification of a blob store: inherit from `BlobStoreContract` and provide two things.

Example:
    >>> class TestMyBlobStore(BlobStoreContract):  # doctest: +SKIP
    ...     @pytest.fixture
    ...     def store(self):
    ...         return MyBlobStore()
    ...
    ...     def damage(self, store, digest):
    ...         store.backdoor[digest] = b"other bytes"
"""

from __future__ import annotations

import hashlib
import secrets
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from crossfade.errors import BlobNotFoundError, BodyTooLargeError, CorruptBlobError
from crossfade.storage.blobs.port import Blob, BlobStore

LIMIT = 64 * 2**20
"""More than any blob of the suite."""

HOSTILE_DIGESTS = (
    "",
    ".",
    "..",
    "../../etc/passwd",
    "/etc/passwd",
    "sha256:" + "a" * 64,
    "A" * 64,
    "a" * 63,
    "a" * 65,
    "a" * 64 + "\n",
    "a" * 32 + "\x00" + "a" * 31,
    "a" * 61 + "/..",
    "\u0661" * 64,  # digits, but not ASCII
    "%61" * 21 + "a",
    "*" * 64,
)
"""Texts that are no digests. None of them may reach a path or a key."""


def digest_of(data: bytes) -> str:
    """Return the digest of `data`, computed without Crossfade."""
    return hashlib.sha256(data).hexdigest()


class BlobStoreContract:
    """Tests that every blob store passes."""

    clock_resolution = timedelta(seconds=0.02)
    """How much later two `stored_at` must be to differ for certain."""

    clock_error = timedelta(seconds=5)
    """How far the clock of the store may be from the clock here."""

    dates_unfinished = True
    """Whether the server that the suite runs against knows how old an unfinished upload is."""

    @pytest.fixture
    @abstractmethod
    def store(self) -> BlobStore:
        """Return an empty store."""
        raise NotImplementedError

    @abstractmethod
    def damage(self, store: BlobStore, digest: str) -> None:
        """Change the stored bytes behind the store's back, without changing how many they are."""
        raise NotImplementedError

    @abstractmethod
    def truncate(self, store: BlobStore, digest: str) -> None:
        """Cut the stored bytes behind the store's back."""
        raise NotImplementedError

    @abstractmethod
    def abandon(self, store: BlobStore) -> None:
        """Leave an unfinished upload behind, as a process that is killed does; nothing where that leaves nothing."""
        raise NotImplementedError

    def leftovers(self, store: BlobStore) -> int:
        """Return how many unfinished uploads the store keeps; a store that cannot have any returns 0."""
        del store
        return 0

    def test_what_is_put_is_found_opened_and_read(self, store: BlobStore) -> None:
        """The round trip."""
        before = datetime.now(UTC)
        blob = store.put([b"hel", b"", b"lo"], limit_bytes=5)
        assert blob.digest == digest_of(b"hello")
        assert blob.size == 5
        assert before - self.clock_error < blob.stored_at < datetime.now(UTC) + self.clock_error
        assert blob.stored_at.utcoffset() == timedelta(0)
        assert store.find(blob.digest) == blob
        assert store.read(blob.digest) == b"hello"
        with store.open(blob.digest) as stream:
            assert stream.read(2) == b"he"
            assert stream.read() == b"llo"
            assert stream.read() == b""
        assert list(store.list()) == [blob]
        assert self.leftovers(store) == 0

    def test_an_empty_blob_is_a_blob(self, store: BlobStore) -> None:
        """No bytes are bytes."""
        for chunks in ([], [b""]):
            blob = store.put(chunks, limit_bytes=1)
            assert blob.digest == digest_of(b"")
            assert blob.size == 0
            assert store.read(blob.digest) == b""

    def test_a_large_blob_in_uneven_chunks(self, store: BlobStore) -> None:
        """32 MiB arrive whole, and can be read in pieces of any size."""
        data = secrets.token_bytes(2**20) * 32
        chunks = (data[start : start + 999_983] for start in range(0, len(data), 999_983))
        blob = store.put(chunks, limit_bytes=len(data), expected=digest_of(data))
        assert blob.size == len(data)
        hashed = hashlib.sha256()
        with store.open(blob.digest) as stream:
            while piece := stream.read(300_007):
                hashed.update(piece)
        assert hashed.hexdigest() == blob.digest
        assert store.read(blob.digest) == data

    def test_one_byte_over_the_limit_keeps_nothing(self, store: BlobStore) -> None:
        """The limit counts while bytes arrive: an endless upload ends."""
        assert store.put([b"12345"], limit_bytes=5).size == 5
        with pytest.raises(BodyTooLargeError) as raised:
            store.put(iter(lambda: b"123456", b""), limit_bytes=1_000)
        assert raised.value.facts["limit_bytes"] == 1_000
        with pytest.raises(BodyTooLargeError):
            store.put([b"1"], limit_bytes=0)
        assert [blob.size for blob in store.list()] == [5]
        assert self.leftovers(store) == 0

    def test_the_expected_digest_is_enforced(self, store: BlobStore) -> None:
        """Bytes that differ from what was announced are not kept."""
        assert store.put([b"right"], limit_bytes=LIMIT, expected=digest_of(b"right")).size == 5
        for expected in (digest_of(b"right"), digest_of(b"wrong").upper(), "", "../x"):
            with pytest.raises(CorruptBlobError):
                store.put([b"wrong"], limit_bytes=LIMIT, expected=expected)
        assert [blob.digest for blob in store.list()] == [digest_of(b"right")]
        assert self.leftovers(store) == 0

    def test_an_upload_that_breaks_off_keeps_nothing(self, store: BlobStore) -> None:
        """The sender's own error comes back as it is, also when it looks like one of the disk."""

        def broken(error: BaseException) -> Iterator[bytes]:
            yield b"some bytes"
            raise error

        for error in (
            RuntimeError("gone"),
            OSError(28, "not our disk"),
            FileNotFoundError("gone"),
            KeyboardInterrupt(),
        ):
            with pytest.raises(type(error)) as raised:
                store.put(broken(error), limit_bytes=LIMIT)
            assert raised.value is error
        assert list(store.list()) == []
        assert self.leftovers(store) == 0

    def test_storing_again_renews_the_time(self, store: BlobStore) -> None:
        """Garbage collection goes by age, so what somebody stores again is young again."""
        first = store.put([b"same"], limit_bytes=LIMIT)
        time.sleep(self.clock_resolution.total_seconds())
        again = store.put([b"sa", b"me"], limit_bytes=LIMIT, expected=first.digest)
        assert again.stored_at > first.stored_at
        assert store.find(first.digest) == again
        assert list(store.list()) == [again]
        assert store.read(first.digest) == b"same"

    @pytest.mark.parametrize("spoil", ["damage", "truncate"])
    def test_bad_bytes_are_noticed_and_replaced(self, store: BlobStore, spoil: str) -> None:
        """A blob that went bad is never returned by `read`, and storing it again heals it."""
        data = secrets.token_bytes(5_000)
        blob = store.put([data], limit_bytes=LIMIT)
        harm: Callable[[BlobStore, str], None] = getattr(self, spoil)
        harm(store, blob.digest)
        with pytest.raises(CorruptBlobError) as raised:
            store.read(blob.digest)
        assert raised.value.facts["digest"] == blob.digest
        assert store.put([data], limit_bytes=LIMIT).size == 5_000
        assert store.read(blob.digest) == data

    @pytest.mark.parametrize("spoil", ["damage", "truncate"])
    def test_only_good_bytes_are_found_intact(self, store: BlobStore, spoil: str) -> None:
        """Who relies on a stored blob without storing it again learns that it went bad."""
        data = secrets.token_bytes(5_000)
        blob, other = (store.put([part], limit_bytes=LIMIT) for part in (data, b"other"))
        assert store.find_intact(blob.digest) == blob
        harm: Callable[[BlobStore, str], None] = getattr(self, spoil)
        harm(store, blob.digest)
        assert store.find_intact(blob.digest) is None
        assert store.find_intact(other.digest) == other
        healed = store.put([data], limit_bytes=LIMIT)
        assert store.find_intact(blob.digest) == healed

    def test_what_interrupted_uploads_left_is_swept_when_it_is_old(self, store: BlobStore) -> None:
        """Uploads under way are young; what is stored stays."""
        kept = store.put([b"kept"], limit_bytes=LIMIT)
        self.abandon(store)
        left = self.leftovers(store)
        if self.dates_unfinished:
            assert store.sweep_unfinished(datetime.now(UTC) - timedelta(hours=1)) == 0
            assert self.leftovers(store) == left
        assert store.sweep_unfinished(datetime.now(UTC) + timedelta(hours=1)) == left
        assert self.leftovers(store) == 0
        assert store.sweep_unfinished(datetime.now(UTC) + timedelta(hours=1)) == 0
        assert list(store.list()) == [kept]

    def test_what_is_missing_is_said_to_be_missing(self, store: BlobStore) -> None:
        """A well-formed digest of nothing."""
        digest = digest_of(b"never stored")
        assert store.find(digest) is None
        assert store.find_intact(digest) is None
        assert store.delete(digest) is False
        for access in (store.open, store.read):
            with pytest.raises(BlobNotFoundError):
                access(digest)

    @pytest.mark.parametrize("digest", HOSTILE_DIGESTS, ids=ascii)
    def test_what_is_no_digest_is_never_used(self, store: BlobStore, digest: str) -> None:
        """Only a digest names a blob."""
        assert store.find(digest) is None
        assert store.find_intact(digest) is None
        assert store.delete(digest) is False
        for access in (store.open, store.read):
            with pytest.raises(BlobNotFoundError):
                access(digest)

    def test_delete_is_final_and_says_what_it_did(self, store: BlobStore) -> None:
        """Deleting one leaves the others, and it can be stored again."""
        kept, gone = (store.put([data], limit_bytes=LIMIT) for data in (b"kept", b"gone"))
        assert store.delete(gone.digest) is True
        assert store.delete(gone.digest) is False
        assert store.find(gone.digest) is None
        assert [blob.digest for blob in store.list()] == [kept.digest]
        assert store.put([b"gone"], limit_bytes=LIMIT).digest == gone.digest
        assert store.read(gone.digest) == b"gone"

    def test_list_is_in_the_order_of_digests(self, store: BlobStore) -> None:
        """Also when they share their first characters; and deleting while listing is allowed."""
        assert list(store.list()) == []
        blobs = [store.put([str(number).encode()], limit_bytes=LIMIT) for number in range(40)]
        assert list(store.list()) == sorted(blobs, key=lambda blob: blob.digest)
        for blob in store.list():
            store.delete(blob.digest)
        assert list(store.list()) == []

    def test_many_threads_store_the_same(self, store: BlobStore) -> None:
        """All succeed, one blob results."""
        data = secrets.token_bytes(100_000)
        barrier = threading.Barrier(8)

        def put(_: int) -> Blob:
            barrier.wait()
            return store.put([data[:50_000], data[50_000:]], limit_bytes=LIMIT, expected=digest_of(data))

        with ThreadPoolExecutor(8) as threads:
            blobs = list(threads.map(put, range(8)))
        assert {(blob.digest, blob.size) for blob in blobs} == {(digest_of(data), 100_000)}
        assert store.read(digest_of(data)) == data
        assert len(list(store.list())) == 1
        assert self.leftovers(store) == 0

    def test_many_threads_store_different_things_while_others_read(self, store: BlobStore) -> None:
        """Whatever is listed can be read whole at that moment."""
        contents = [secrets.token_bytes(30_000 + number) for number in range(32)]
        stop = threading.Event()

        def watch() -> int:
            seen = 0
            while not stop.is_set():
                for blob in store.list():
                    assert len(store.read(blob.digest)) == blob.size
                    seen += 1
            return seen

        with ThreadPoolExecutor(9) as threads:
            watching = threads.submit(watch)
            try:
                blobs = list(threads.map(lambda data: store.put([data], limit_bytes=LIMIT), contents))
            finally:
                stop.set()
            watching.result()
        assert [blob.digest for blob in blobs] == [digest_of(data) for data in contents]
        for data in contents:
            assert store.read(digest_of(data)) == data

    def test_an_open_stream_survives_the_blob_being_stored_again(self, store: BlobStore) -> None:
        """A reader that started keeps its bytes."""
        data = secrets.token_bytes(200_000)
        blob = store.put([data], limit_bytes=LIMIT)
        with store.open(blob.digest) as stream:
            first = stream.read(1_000)
            store.put([data], limit_bytes=LIMIT)
            assert first + stream.read() == data

    def test_close_may_be_called(self, store: BlobStore) -> None:
        """The last thing that is done to a store."""
        store.close()
