"""`GpuPool`: which replica of which process has which GPU of the machine."""

from __future__ import annotations

import threading
from pathlib import Path

from crossfade.core.graphics import visible_gpus
from crossfade.errors import InsufficientResourcesError
from crossfade.storage.locks import FileLock


class GpuPool:
    """GPUs are held by locked files, so that several serving processes of a machine never share one.

    Args:
        folder: Where the files are.

    Attributes:
        names: All there are, as `CUDA_VISIBLE_DEVICES` calls them.
    """

    def __init__(self, folder: Path) -> None:
        self.names = visible_gpus()
        self._folder = folder
        self._held: dict[str, FileLock] = {}
        self._holding = threading.Lock()

    def claim(self, count: int, name: str) -> tuple[str, ...]:
        """Hold so many for a replica, until `release`.

        Args:
            count: How many.
            name: Of the deployment.

        Raises:
            InsufficientResourcesError: There are not so many that nobody holds.
        """
        got: list[str] = []
        with self._holding:
            for gpu in self.names:
                if len(got) < count and gpu not in self._held and self._lock(gpu):
                    got.append(gpu)
        if len(got) < count:
            self.release(tuple(got))
            raise InsufficientResourcesError(name=name, what="GPUs", wanted=count, available=len(got))
        return tuple(got)

    def release(self, gpus: tuple[str, ...]) -> None:
        """Let others have them."""
        with self._holding:
            for gpu in gpus:
                lock = self._held.pop(gpu, None)
                if lock is not None:
                    lock.release()

    def _lock(self, gpu: str) -> bool:
        self._folder.mkdir(parents=True, exist_ok=True)
        lock = FileLock.take(self._folder / f"gpu-{gpu}.lock")
        if lock is None:
            return False
        self._held[gpu] = lock
        return True
