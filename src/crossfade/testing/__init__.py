"""Contract suites: what a backend has to do, as pytest classes that the author of a backend inherits from.

Example:
    >>> class TestMyBlobStore(BlobStoreContract):  # doctest: +SKIP
    ...     @pytest.fixture
    ...     def store(self):
    ...         return MyBlobStore()
"""
