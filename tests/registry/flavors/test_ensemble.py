"""The files of an ensemble: what loads, and that nothing damaged or made up does."""

import json

import msgspec
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crossfade.core.hashing import sha256
from crossfade.errors import CodeNotAllowedError, CrossfadeError, LoadFailedError, UnknownFlavorError
from crossfade.registry.ensembles.document import EnsembleDocument, EnsembleSpec, Member, Part
from crossfade.registry.flavors.backends import flavor_for_file, flavor_named
from crossfade.registry.flavors.port import TrustPolicy
from tests.registry import toy
from tests.registry.support import toy_manifest
from tests.registry.toy import Linear

SAFE = TrustPolicy()
FLAVOR = "ensemble"


def made_of(*models, spec=None):
    """Return the files of an ensemble of toys."""
    toy.install()
    files, parts = {}, []
    for place, model in enumerate(models):
        manifest, contents = toy_manifest(f"m{place}", "1.0.0", model)
        parts.append(Part(manifest.ref, manifest.digest))
        files[f"members/{place}/manifest.json"] = manifest.encode()
        known = {sha256(data): data for data in contents}
        files |= {f"members/{place}/{entry.path}": known[entry.digest] for entry in manifest.files_of("model")}
    spec = spec or EnsembleSpec("average", tuple(Member(part.ref) for part in parts))
    return files | {"ensemble.json": EnsembleDocument(spec, tuple(parts)).encode()}


@pytest.fixture
def files():
    return made_of(Linear((1.0,)), Linear((3.0,)))


def both(files, policy=SAFE):
    """Inspect and load, as publication and serving do."""
    flavor = flavor_named(FLAVOR)
    flavor.inspect(files, policy)
    return flavor.load(files, policy)


def refused(files, error=LoadFailedError):
    with pytest.raises(error) as caught:
        both(files)
    return caught.value.message


def test_it_loads_and_answers(files):
    runnable = both(files)
    assert [spec.name for spec in runnable.inputs] == ["x0"]
    assert runnable.predict({"x0": np.array([1.0, 2.0])}, frozenset({"predict"}))["predict"].tolist() == [2.0, 4.0]


def test_no_object_and_no_single_file_is_taken_for_one():
    flavor = flavor_named(FLAVOR)
    assert not flavor.recognises(EnsembleSpec("average", (Member("a:1.0.0"),)))
    for refuse in (flavor.save, flavor.wrap):
        with pytest.raises(UnknownFlavorError, match=r"registered versions|as an ensemble"):
            refuse(object())
    with pytest.raises(UnknownFlavorError):
        flavor_for_file("ensemble.json", b'{"spec":')


@pytest.mark.parametrize("path", ["ensemble.json", "members/0/manifest.json", "members/1/model.toy"])
def test_every_file_is_needed(files, path):
    del files[path]
    refused(files)


def test_a_file_that_belongs_to_nobody_is_refused(files):
    assert "belongs to no part" in refused(files | {"members/2/model.toy": b"{}"})
    assert "belongs to no part" in refused(files | {"members/0/other": b""})


def test_other_bytes_than_those_of_the_member_are_refused(files):
    swapped = files | {"members/0/model.toy": files["members/1/model.toy"]}
    assert "is not what `m0:1.0.0` has" in refused(swapped)
    swapped = files | {"members/0/manifest.json": files["members/1/manifest.json"]}
    assert "is not the manifest of `m0:1.0.0`" in refused(swapped)


def rewritten(files, /, **changes):
    """Return the files with another manifest of the first member, whose digest the document names."""
    manifest = msgspec.json.decode(files["members/0/manifest.json"])
    content = msgspec.json.encode(manifest | changes)
    document = json.loads(files["ensemble.json"])
    document["parts"][0]["digest"] = sha256(content)
    return files | {"members/0/manifest.json": content, "ensemble.json": json.dumps(document).encode()}


@pytest.mark.parametrize(
    "changes",
    [
        {"name": "other"},
        {"version": "1.0"},
        {"files": []},
        {"format": 7},
        {"surprise": 1},
        {"signature": {"inputs": [], "outputs": []}},
        {"signature": {"inputs": [{"name": "x", "datatype": "FP64", "shape": [-1]}], "outputs": []}},
    ],
)
def test_a_made_up_manifest_of_a_member_is_refused(files, changes):
    refused(rewritten(files, **changes))


def test_a_member_that_is_not_what_its_flavor_takes_is_named(files):
    """Its bytes are what its manifest says, but they are no toy."""
    garbage = b"no toy"
    entries = msgspec.json.decode(files["members/0/manifest.json"])["files"]
    entries = [entry | {"digest": sha256(garbage)} if entry["role"] == "model" else entry for entry in entries]
    damaged = rewritten(files, files=entries) | {"members/0/model.toy": garbage}
    assert "member `m0:1.0.0`: it is no toy" in refused(damaged)
    with pytest.raises(LoadFailedError, match=r"member `m0:1.0.0`: it is no toy"):
        flavor_named(FLAVOR).load(damaged, SAFE)


def test_a_flavor_that_is_not_here_is_named(files):
    assert "`h5`" in refused(rewritten(files, flavor="h5"), UnknownFlavorError)


def test_members_that_do_not_fit_are_refused_even_when_somebody_made_the_files_by_hand():
    files = made_of(Linear((1.0,)), spec=EnsembleSpec("hard_vote", (Member("m0:1.0.0"),)))
    for check in (flavor_named(FLAVOR).inspect, flavor_named(FLAVOR).load):
        with pytest.raises(LoadFailedError, match="gives no labels"):
            check(files, SAFE)


def test_ensembles_do_not_nest_for_ever(files):
    entry = {"digest": "0" * 64, "size": 1, "media_type": "application/json", "role": "model"}
    paths = ["ensemble.json", "members/0/ensemble.json"]
    nested = rewritten(files, flavor="ensemble", files=[entry | {"path": path} for path in paths])
    assert "nested too deeply" in refused(nested)


def test_code_in_a_member_is_code():
    files = made_of(Linear((1.0,)), Linear((1.0,), runs_code=True))
    refused(files, CodeNotAllowedError)
    with pytest.raises(CodeNotAllowedError):
        flavor_named(FLAVOR).load(files, SAFE)
    both(files, TrustPolicy(allow_code=True))


@given(st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_flipped_byte_anywhere_is_refused_or_harmless(files, data):
    """Harmless is what leaves the meaning: a weight that is another number is found by digests outside of here."""
    path = data.draw(st.sampled_from(sorted(files)))
    content = bytearray(files[path])
    content[data.draw(st.integers(0, len(content) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        both(files | {path: bytes(content)})
    except CrossfadeError:
        return
    assert path == "ensemble.json"
