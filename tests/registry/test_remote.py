"""The registry as it is used from afar, where whoever registers does not see the blob store."""

from __future__ import annotations

import pytest

from crossfade.errors import CorruptBlobError, MalformedRequestError
from crossfade.platform import open_platform
from crossfade.settings import Settings
from tests import control


@pytest.fixture
def platform(tmp_path):
    with open_platform(Settings(home=tmp_path / "home")) as opened:
        yield opened


@pytest.fixture
def client(platform):
    with control.local_client(platform) as opened:
        yield opened


def change(platform, ref, role):
    digest = platform.registry.manifest(ref).files_of(role)[0].digest
    path = platform.registry.backend.blobs.root / "sha256" / digest[:2] / digest
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


@pytest.mark.parametrize("version", ["1.0.0", "1.0.1"])
@pytest.mark.parametrize("role", ["model", "golden", "card"])
def test_registering_again_or_anew_restores_a_changed_blob(client, platform, tmp_path, role, version):
    draft = control.tiny_draft(tmp_path / "model.onnx", 1.0)
    client.register_draft("tiny", draft, version="1.0.0")
    change(platform, "tiny:1.0.0", role)
    with pytest.raises(CorruptBlobError):
        client.verify("tiny:1.0.0")
    client.register_draft("tiny", draft, version=version)
    for ref in {"tiny:1.0.0", f"tiny:{version}"}:
        assert client.verify(ref).golden_rows == 2


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_reason_that_no_history_can_hold_is_refused_before_anything_moves(client, platform, tmp_path, dry_run):
    control.register(client, tmp_path, "1.0.0")
    for text in ({"reason": "nul\0"}, {"principal": "x" * 129}):
        with pytest.raises(MalformedRequestError):
            platform.switch.move("tiny", "champion", "1.0.0", dry_run=dry_run, **text)
    assert platform.registry.model("tiny").aliases == {}
