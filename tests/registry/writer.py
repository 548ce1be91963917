"""A process that registers versions of one model, as its arguments say: HOME URL NAME VERSION CONTENT..."""

from __future__ import annotations

import sys
from pathlib import Path

from crossfade.errors import VersionConflictError
from crossfade.registry.registry import Registry
from tests.registry import toy
from tests.registry.support import open_backend


def main(home, url, name, version, *contents):
    toy.install()
    backend = open_backend(Path(home), url)
    registry = Registry(backend)
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    for content in contents:
        model = toy.Linear((1.0,), float(content))
        try:
            found = registry.register(name, model, version=version or None, signature=model.signature())
            sys.stdout.write(f"{found.version} {found.manifest_digest}\n")
        except VersionConflictError:
            sys.stdout.write("conflict\n")
    backend.database.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
