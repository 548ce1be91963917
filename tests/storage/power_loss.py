"""A disk in memory whose power can be cut: which states may be found afterwards?

What POSIX promises is only this: contents are durable after `fsync` of the file, names after `fsync` of the folder. So
after a power cut each name that was changed since its folder was synchronised may be what it was before, or anything it
has been since, independently of other names; and each file may have lost any tail of what was written since it was
synchronised, or have its length but zeros for contents.
"""

import io
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from crossfade.storage.filesystem import FileInfo

PAGE = 4096


class PowerLossError(BaseException):
    """The power is gone. Not an Exception: a program that dies handles nothing."""


class File:
    def __init__(self, durable: bytes, moment: datetime) -> None:
        self.content = bytearray(durable)
        self.durable = durable
        self.modified_at = moment

    def outcomes(self) -> list[bytes]:
        """Return every content that may be found after a power cut."""
        synced, written = len(self.durable), len(self.content)
        if synced == written:
            return [self.durable]
        first_page = synced - synced % PAGE + PAGE
        lengths = {synced, *range(first_page, written, PAGE), written}
        zeros = self.durable + bytes(written - synced)
        return [*(bytes(self.content[:length]) for length in sorted(lengths)), zeros]


class Folder:
    def __init__(self) -> None:
        self.entries: dict[str, File | Folder] = {}
        self.durable: dict[str, File | Folder] = {}
        self.history: dict[str, list[File | Folder | None]] = {}

    def set(self, name: str, node: "File | Folder | None") -> None:
        if node is None:
            del self.entries[name]
        else:
            self.entries[name] = node
        self.history.setdefault(name, []).append(node)

    def sync(self) -> None:
        self.durable = dict(self.entries)
        self.history.clear()

    def outcomes(self, name: str) -> "list[File | Folder | None]":
        """Return everything that `name` may be after a power cut."""
        return [self.durable.get(name), *self.history.get(name, [])]

    def names(self) -> list[str]:
        return sorted({*self.durable, *self.history})


class PowerLossFileSystem:
    """Implements `FileSystem`. Counts its operations; the power fails before operation number `fails_at`."""

    def __init__(self, root: Folder | None = None, fails_at: int = 0) -> None:
        self.root = root or Folder()
        self.fails_at = fails_at
        self.operations: list[str] = []
        self._handles: dict[int, File] = {}
        self._numbers = itertools.count(1)

    # --- operations

    def open_new(self, path: Path) -> int:
        folder = self._step("open_new", path)
        if path.name in folder.entries:
            raise FileExistsError(17, "exists", str(path))
        file = File(b"", self._now())
        folder.set(path.name, file)
        handle = next(self._numbers)
        self._handles[handle] = file
        return handle

    def write(self, handle: int, data: bytes) -> None:
        self._step("write")
        self._handles[handle].content += data
        self._handles[handle].modified_at = self._now()

    def fsync(self, handle: int) -> None:
        self._step("fsync")
        self._handles[handle].durable = bytes(self._handles[handle].content)

    def sync_data(self, handle: int) -> None:
        self._step("sync_data")
        self._handles[handle].durable = bytes(self._handles[handle].content)

    def truncate(self, path: Path, size: int) -> None:
        self._step("truncate", path)
        file = self._file(path)
        del file.content[size:]
        file.durable = bytes(file.content)

    def close(self, handle: int) -> None:
        self._step("close")
        del self._handles[handle]

    def open_read(self, path: Path) -> io.BytesIO:
        self._step("open_read", path)
        return io.BytesIO(bytes(self._file(path).content))

    def rename(self, source: Path, target: Path) -> None:
        self._step("rename", target)
        file = self._file(source)
        self._folder(target.parent).set(target.name, file)
        self._folder(source.parent).set(source.name, None)

    def unlink(self, path: Path) -> None:
        self._step("unlink", path)
        self._file(path)
        self._folder(path.parent).set(path.name, None)

    def chmod(self, path: Path, mode: int) -> None:
        self._step("chmod", path)
        self._file(path)

    def touch(self, path: Path) -> None:
        self._step("touch", path)
        self._file(path).modified_at = self._now()

    def stat(self, path: Path) -> FileInfo:
        self._step("stat", path)
        file = self._file(path)
        return FileInfo(len(file.content), file.modified_at)

    def mkdir(self, path: Path) -> bool:
        folder = self._step("mkdir", path)
        if path == path.parent or path.name in folder.entries:
            return False
        folder.set(path.name, Folder())
        return True

    def list_names(self, path: Path) -> list[str]:
        self._step("list_names", path)
        return sorted(self._folder(path).entries)

    def fsync_dir(self, path: Path) -> None:
        self._step("fsync_dir", path)
        self._folder(path).sync()

    # --- after the power cut

    def states(self) -> Iterator["PowerLossFileSystem"]:
        """Yield a working disk for every state that may be found now."""
        folders, files = self._reachable()
        names = [(folder, name) for folder in folders for name in folder.names()]
        choices = [folder.outcomes(name) for folder, name in names] + [file.outcomes() for file in files]
        for chosen in itertools.product(*choices):
            entries: dict[int, dict[str, File | Folder]] = {id(folder): {} for folder in folders}
            for (folder, name), node in zip(names, chosen, strict=False):
                if node is not None:
                    entries[id(folder)][name] = node
            contents = {id(file): content for file, content in zip(files, chosen[len(names) :], strict=True)}
            yield PowerLossFileSystem(self._rebuilt(self.root, entries, contents))

    def _reachable(self) -> tuple[list[Folder], list[File]]:
        folders, files, seen, queue = [], [], set(), [self.root]
        while queue:
            node = queue.pop()
            if id(node) in seen:
                continue
            seen.add(id(node))
            if isinstance(node, File):
                files.append(node)
                continue
            folders.append(node)
            queue.extend(found for name in node.names() for found in node.outcomes(name) if found is not None)
        return folders, files

    def _rebuilt(self, folder: Folder, entries: dict, contents: dict) -> Folder:
        rebuilt = Folder()
        for name, node in entries[id(folder)].items():
            if isinstance(node, Folder):
                rebuilt.entries[name] = self._rebuilt(node, entries, contents)
            else:
                rebuilt.entries[name] = File(contents[id(node)], node.modified_at)
        rebuilt.durable = dict(rebuilt.entries)
        return rebuilt

    # --- inside

    def _step(self, operation: str, path: Path = Path("/")) -> Folder:
        """Count an operation, cut the power if it is time, and return the folder of `path`."""
        if self.fails_at and len(self.operations) + 1 >= self.fails_at:
            raise PowerLossError
        self.operations.append(operation)
        return self._folder(path.parent)

    def _folder(self, path: Path) -> Folder:
        node: File | Folder = self.root
        for part in path.parts[1:]:
            if not isinstance(node, Folder):
                raise NotADirectoryError(20, "not a folder", str(path))
            if part not in node.entries:
                raise FileNotFoundError(2, "not found", str(path))
            node = node.entries[part]
        if not isinstance(node, Folder):
            raise NotADirectoryError(20, "not a folder", str(path))
        return node

    def _file(self, path: Path) -> File:
        node = self._folder(path.parent).entries.get(path.name)
        if not isinstance(node, File):
            raise FileNotFoundError(2, "not found", str(path))
        return node

    def _now(self) -> datetime:
        # Every operation takes a second, so that times differ and are the same in every run.
        return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=len(self.operations))
