"""What loading a version can do, from its manifest alone."""

from crossfade.registry.ensembles.document import EnsembleSpec, Member
from crossfade.registry.flavors.code import Code
from crossfade.registry.flavors.port import Trust
from crossfade.registry.registry import Registry
from crossfade.registry.trust import trust_of
from crossfade.settings import RegistrySettings
from tests.registry.support import toy_manifest
from tests.registry.toy import Linear, columns


class Twice:
    """A model that nothing but a pickle can hold."""

    def predict(self, inputs):
        return 2.0 * inputs[:, 0]


def first(*refs):
    return EnsembleSpec("first", tuple(map(Member, refs)))


def test_a_version_is_as_dangerous_as_its_worst_part(registry, backend):
    manifest, _ = toy_manifest("m", "1.0.0", Linear((1.0,)))
    assert trust_of(manifest, backend.blobs) is Trust.DATA
    manifest, _ = toy_manifest("m", "1.0.0", Linear((1.0,)), preprocessor=Code.name)
    assert trust_of(manifest, backend.blobs) is Trust.CODE


def test_an_ensemble_is_as_dangerous_as_its_worst_member_however_deep(backend, registry):
    trusting = Registry(backend, RegistrySettings(allow_code_models=True))
    rows = {"x0": [1.0, 2.0]}
    trusting.register("safe", Linear((1.0,)), signature=columns("x0"), example=rows)
    trusting.register("coded", Twice(), signature=columns("x0"), example=rows)
    trusting.register_ensemble("tame", first("safe:1.0.0"))
    trusting.register_ensemble("wild", first("safe:1.0.0", "coded:1.0.0"))
    trusting.register_ensemble("hidden", first("tame:1.0.0", "wild:1.0.0"))
    found = {name: trust_of(trusting.manifest(f"{name}:1.0.0"), backend.blobs) for name in ("tame", "wild", "hidden")}
    assert found == {"tame": Trust.CONSTRAINED, "wild": Trust.CODE, "hidden": Trust.CODE}
