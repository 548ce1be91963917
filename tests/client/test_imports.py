"""What a client is made of: scripts and command lines that talk to a server start without what only a server needs."""

import subprocess
import sys

SERVER_ONLY = ("sqlalchemy", "pydantic", "fastapi", "scipy", "pyarrow", "crossfade.platform")


def test_a_client_imports_nothing_that_only_a_server_needs():
    code = f"import sys, crossfade.client; print([name for name in {SERVER_ONLY} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == "[]"
