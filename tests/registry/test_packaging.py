"""Packing a model and loading it again: signatures, golden answers, files, the card."""

import hashlib

import numpy as np
import pandas as pd
import pytest
import sklearn
from lightgbm import LGBMClassifier
from skl2onnx import to_onnx
from sklearn.compose import make_column_transformer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler
from xgboost import XGBClassifier

from crossfade.core.hashing import canonical_json
from crossfade.core.tensors import Signature, TensorSpec
from crossfade.errors import (
    BlobNotFoundError,
    CodeNotAllowedError,
    CorruptBlobError,
    GoldenMismatchError,
    LoadFailedError,
    ManifestError,
    PredictionError,
    SignatureMismatchError,
    SignatureRequiredError,
    UnknownFlavorError,
    UntrustedTypesError,
)
from crossfade.registry.flavors import sklearn as flavor
from crossfade.registry.flavors.port import TrustPolicy
from crossfade.registry.golden import MAX_ROWS, GoldenRequests, verify
from crossfade.registry.loading import inspect_version, load_golden, load_pipeline
from crossfade.registry.model import Model
from crossfade.registry.packaging import check_signature, pack
from crossfade.registry.versions import Card

RNG = np.random.default_rng(7)
X = RNG.normal(size=(60, 3))
LABELS = np.where(X[:, 0] > 0, "late", "on time").astype(object)
FRAME = pd.DataFrame(X, columns=["a", "b", "c"])
MIXED = FRAME.assign(carrier=RNG.choice(["AA", "UA"], 60))
TRUSTING = TrustPolicy(allow_code=True)
POLICY = TrustPolicy()
BOTH = frozenset({"predict", "predict_proba"})


class Shelf:
    """The part of a blob store that loading needs."""

    def __init__(self, draft):
        self.stored = {
            digest: content if isinstance(content, bytes) else content.read_bytes()
            for digest, content in draft.contents.items()
        }
        self.reads = []

    def read(self, digest):
        self.reads.append(digest)
        if digest not in self.stored:
            raise BlobNotFoundError(digest=digest)
        if hashlib.sha256(self.stored[digest]).hexdigest() != digest:
            raise CorruptBlobError(digest=digest, path="", ref="", damage="damaged")
        return self.stored[digest]


def mixed_columns():
    return make_column_transformer((StandardScaler(), ["a", "b"]), (OneHotEncoder(), ["carrier"]))


def text_model():
    return make_pipeline(mixed_columns(), LogisticRegression()).fit(MIXED, LABELS)


def opened(draft, policy=POLICY):
    manifest, shelf = draft.manifest("m", "1.0.0"), Shelf(draft)
    pipeline = load_pipeline(manifest, shelf, policy)
    golden = load_golden(manifest, shelf)
    assert verify(pipeline, golden, "m:1.0.0") == 0
    assert sorted(shelf.reads) == sorted(entry.digest for entry in manifest.files if entry.role != "card")
    return pipeline


# --- signatures ----------------------------------------------------------------------------------------------------


def test_a_frame_with_text_is_served_as_a_frame():
    model = text_model()
    draft = pack(model, example=MIXED)
    signature = draft.signature
    assert signature.layout == "pandas"
    assert [(spec.name, spec.datatype) for spec in signature.inputs] == [
        ("a", "FP64"),
        ("b", "FP64"),
        ("c", "FP64"),
        ("carrier", "BYTES"),
    ]
    assert [spec.describe() for spec in signature.outputs] == ["BYTES [-1]", "FP64 [-1, 2]"]
    assert signature.classes == ("late", "on time")
    answers = opened(draft).predict(
        {"a": X[:2, 0], "b": X[:2, 1], "c": X[:2, 2], "carrier": np.array(["AA", "UA"], object)}, BOTH
    )
    expected = MIXED[:2].assign(carrier=["AA", "UA"])
    assert answers["predict"].tolist() == model.predict(expected).tolist()
    np.testing.assert_allclose(answers["predict_proba"], model.predict_proba(expected))


@pytest.mark.parametrize("example", [FRAME, FRAME.to_dict("records"), FRAME[["c", "a", "b"]]])
def test_columns_of_a_model_fitted_on_arrays_become_a_matrix(example):
    draft = pack(LinearRegression().fit(X, X[:, 0]), example=example)
    assert draft.signature.layout == "matrix"
    assert draft.signature.outputs == (TensorSpec("predict", "FP64", (-1,)),)


def test_columns_come_in_the_order_of_the_fit():
    turned = FRAME[["c", "a", "b"]].assign(target=1.0)
    for model, layout in (
        (LinearRegression().fit(FRAME, X[:, 0]), "matrix"),
        (XGBClassifier(n_estimators=2, n_jobs=1).fit(FRAME, X[:, 0] > 0), "matrix"),
        (
            make_pipeline(make_column_transformer((StandardScaler(), ["b"])), LinearRegression()).fit(FRAME, X[:, 0]),
            "pandas",
        ),
    ):
        draft = pack(model, example=turned)
        assert [spec.name for spec in draft.signature.inputs] == ["a", "b", "c"]
        assert draft.signature.layout == layout
        opened(draft)
    with pytest.raises(SignatureMismatchError, match="`c`: expected the columns that the model was fitted on"):
        pack(LinearRegression().fit(FRAME, X[:, 0]), example=FRAME[["a", "b"]])


def test_an_array_is_one_tensor():
    draft = pack(LinearRegression().fit(X, X[:, :2]), example=X)
    assert draft.signature.inputs == (TensorSpec("x", "FP64", (-1, 3)),)
    assert draft.signature.outputs == (TensorSpec("predict", "FP64", (-1, 2)),)
    assert opened(draft).predict({"x": X[:5]}, frozenset({"predict"}))["predict"].shape == (5, 2)


def test_the_format_may_know_its_inputs():
    model = LogisticRegression().fit(X, (X[:, 0] > 0).astype(int))
    draft = pack(to_onnx(model, X[:1].astype(np.float32), options={"zipmap": False}), example=FRAME)
    assert draft.signature.inputs == (TensorSpec("X", "FP32", (-1, 3), missing=True),)
    assert [spec.name for spec in draft.signature.outputs] == ["label", "probabilities"]
    opened(draft)
    bare = pack(to_onnx(model, X[:1].astype(np.float32), options={"zipmap": False}))
    assert bare.signature == draft.signature
    assert not [entry for entry in bare.files if entry.role == "golden"]


def test_without_example_or_signature_nothing_is_known():
    with pytest.raises(SignatureRequiredError) as caught:
        pack(LinearRegression().fit(X, X[:, 0]))
    assert "--example" in caught.value.hint


def test_a_given_signature_is_kept():
    signature = Signature((TensorSpec("x", "FP64", (-1, 3)),), (TensorSpec("predict", "FP64", (-1,)),))
    model = LinearRegression().fit(X, X[:, 0])
    draft = pack(model, signature=signature)
    assert draft.signature is signature
    assert {entry.role for entry in draft.files} == {"model", "card"}
    opened(pack(model, signature=signature, example=FRAME))
    with pytest.raises(SignatureMismatchError, match=r"shape \[-1, 3\]"):
        pack(model, signature=signature, example=X[:, :2])


def test_a_model_that_fails_on_the_example_is_refused():
    with pytest.raises(PredictionError, match="features"):
        pack(LinearRegression().fit(X, X[:, 0]), example=X[:, :2])


@pytest.mark.parametrize(
    ("signature", "problem"),
    [
        (Signature((), (TensorSpec("y", "FP64", (-1,)),)), "inputs must have names"),
        (Signature((TensorSpec("x", "FP64", (-1,)),), ()), "outputs must have names"),
        (Signature((TensorSpec("x", "FP64", (-1,)),) * 2, (TensorSpec("y", "FP64", (-1,)),)), "that differ"),
        (Signature((TensorSpec("x", "FP128", (-1,)),), (TensorSpec("y", "FP64", (-1,)),)), "cannot be FP128"),
        (Signature((TensorSpec("x", "FP64", (4,)),), (TensorSpec("y", "FP64", (-1,)),)), "cannot be FP64 \\[4\\]"),
        (Signature((TensorSpec("x", "FP64", ()),), (TensorSpec("y", "FP64", (-1,)),)), "cannot be FP64 \\[\\]"),
        (Signature((TensorSpec("x", "FP64", (-1, -2)),), (TensorSpec("y", "FP64", (-1,)),)), "cannot be"),
        (Signature((TensorSpec("x", "FP64", (-1,) * 17),), (TensorSpec("y", "FP64", (-1,)),)), "cannot be"),
        (
            Signature((TensorSpec("x", "FP64", (-1, 3)),), (TensorSpec("y", "FP64", (-1,)),), "pandas"),
            "needs columns",
        ),
    ],
)
def test_an_inconsistent_signature_is_refused(signature, problem):
    with pytest.raises(ManifestError, match=problem):
        check_signature(signature)
    with pytest.raises(ManifestError):
        pack(LinearRegression().fit(X, X[:, 0]), signature=signature)


# --- preprocessor --------------------------------------------------------------------------------------------------


def test_preprocessor_and_model_are_packed_as_one():
    columns = mixed_columns().fit(MIXED)
    model = LGBMClassifier(n_estimators=3, verbose=-1, n_jobs=1, min_child_samples=5)
    model.fit(columns.transform(MIXED), LABELS)
    draft = pack(model, preprocessor=columns, example=MIXED)
    assert (draft.flavor, draft.preprocessor) == ("lightgbm", "sklearn")
    assert [(entry.path, entry.role) for entry in draft.files] == [
        ("card.json", "card"),
        ("classes.json", "model"),
        ("golden.json", "golden"),
        ("model.txt", "model"),
        ("preprocessor/model.skops", "preprocessor"),
    ]
    assert draft.signature.layout == "pandas"
    assert set(draft.card.environment) >= {"python", "scikit-learn", "lightgbm"}
    opened(draft)


def test_files_of_both_may_be_given(tmp_path):
    columns = StandardScaler().fit(X)
    model = LogisticRegression().fit(columns.transform(X), LABELS)
    paths = {}
    for name, part in (("columns", columns), ("model", model)):
        paths[name] = tmp_path / f"{name}.SKOPS"
        paths[name].write_bytes(flavor.Sklearn().save(part)["model.skops"])
    with pytest.raises(UnknownFlavorError):
        pack(paths["model"], example=X)
    named = {name: path.rename(path.with_suffix(".skops")) for name, path in paths.items()}
    draft = pack(str(named["model"]), preprocessor=named["columns"], example=X)
    assert draft.contents[draft.manifest("m", "1.0.0").files_of("model")[0].digest] == named["model"]
    assert [entry.path for entry in draft.files if entry.role in {"model", "preprocessor"}] == [
        "model.skops",
        "preprocessor/model.skops",
    ]
    opened(draft)


# --- golden requests -----------------------------------------------------------------------------------------------


def test_the_first_rows_become_golden_requests():
    draft = pack(text_model(), example=MIXED)
    golden = load_golden(draft.manifest("m", "1.0.0"), Shelf(draft))
    assert {len(value) for value in golden.inputs.values()} == {MAX_ROWS}
    assert golden.outputs["predict"].tolist() == text_model().predict(MIXED[:MAX_ROWS]).tolist()


def test_golden_requests_of_your_own_must_be_met():
    model = LinearRegression().fit(X, X[:, 0])
    mine = GoldenRequests({"x": X[:2]}, {"predict": X[:2, 0]})
    draft = pack(model, example=X, golden=mine)
    assert load_golden(draft.manifest("m", "1.0.0"), Shelf(draft)).encode() == mine.encode()
    with pytest.raises(GoldenMismatchError):
        pack(model, example=X, golden=GoldenRequests({"x": X[:2]}, {"predict": X[:2, 0] + 1}))


class Forgetful(LinearRegression):
    """Answers otherwise once it has been saved and loaded."""

    def __getstate__(self):
        return {**super().__getstate__(), "intercept_": 5.0}


def test_what_saving_loses_is_noticed():
    policy = TrustPolicy(trusted_types=frozenset({f"{__name__}.Forgetful"}))
    with pytest.raises(GoldenMismatchError, match="the packed model"):
        pack(Forgetful().fit(X, X[:, 0]), example=X, policy=policy)


# --- trust ---------------------------------------------------------------------------------------------------------


class Sum(Model):
    def predict(self, inputs):
        return {"total": inputs["x"].sum(axis=1), "count": np.full(len(inputs["x"]), 3)}

    def required_inputs(self):
        return (TensorSpec("x", "FP64", (-1, 3)),)

    def info(self):
        return {"kind": "sum", "size": 3}


def test_code_is_refused_or_packed_with_what_it_says_about_itself():
    with pytest.raises(CodeNotAllowedError):
        pack(Sum(), example=X)
    draft = pack(Sum(), example=X, policy=TRUSTING, card=Card(parameters={"size": 4}))
    assert draft.flavor == "code"
    assert [(spec.name, spec.describe()) for spec in draft.signature.outputs] == [
        ("total", "FP64 [-1]"),
        ("count", "INT64 [-1]"),
    ]
    assert draft.card.parameters == {"kind": "sum", "size": 4}
    opened(draft, TRUSTING)
    with pytest.raises(CodeNotAllowedError):
        load_pipeline(draft.manifest("m", "1.0.0"), Shelf(draft), POLICY)


def test_untrusted_types_are_refused_when_packing():
    with pytest.raises(UntrustedTypesError, match="Forgetful"):
        pack(Forgetful().fit(X, X[:, 0]), example=X)


def test_what_has_no_safe_format_is_packed_as_code_when_allowed():
    from sklearn.cluster import Birch

    model = Birch(n_clusters=2).fit(X)
    with pytest.raises(CodeNotAllowedError):
        pack(model, example=X)
    assert pack(model, example=X, policy=TRUSTING).flavor == "code"
    with pytest.raises(CodeNotAllowedError):
        pack(model, example=X, policy=TRUSTING, flavor="sklearn")
    assert pack(LinearRegression().fit(X, X[:, 0]), example=X, policy=TRUSTING, flavor="code").flavor == "code"


# --- draft and card ------------------------------------------------------------------------------------------------


def test_packing_again_gives_the_same_digest():
    model = text_model()
    first, second = (pack(model, example=MIXED).manifest("m", "1.0.0") for _ in range(2))
    assert first.digest == second.digest
    assert pack(text_model(), example=MIXED).manifest("m", "1.0.0").digest == first.digest


def test_entries_describe_the_contents():
    draft = pack(text_model(), example=MIXED, card=Card(description="flights", evaluation={"auc": 0.7}))
    for entry in draft.files:
        content = draft.contents[entry.digest]
        assert (hashlib.sha256(content).hexdigest(), len(content)) == (entry.digest, entry.size)
    by_role = {entry.role: entry for entry in draft.files}
    assert by_role["card"].media_type == "application/json"
    assert draft.contents[by_role["card"].digest] == canonical_json(draft.card)
    assert draft.card.environment["scikit-learn"] == sklearn.__version__
    assert "xgboost" not in draft.card.environment
    manifest = draft.manifest("flight_delay", "1.2.0")
    assert (manifest.ref, manifest.flavor, manifest.files) == ("flight_delay:1.2.0", "sklearn", draft.files)


def test_a_given_environment_is_kept():
    draft = pack(LinearRegression().fit(X, X[:, 0]), example=X, card=Card(environment={"python": "3.9"}))
    assert draft.card.environment == {"python": "3.9"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_an_evaluation_is_a_finite_number(value):
    with pytest.raises(ManifestError, match="`auc`"):
        pack(LinearRegression().fit(X, X[:, 0]), example=X, card=Card(evaluation={"auc": value}))


# --- damage --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("role", "path"), [("model", "model.skops"), ("golden", "golden.json")])
@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_damage_is_named(role, path, damage):
    draft = pack(LinearRegression().fit(X, X[:, 0]), example=X)
    manifest, shelf = draft.manifest("m", "1.0.0"), Shelf(draft)
    digest = manifest.files_of(role)[0].digest
    if damage == "missing":
        del shelf.stored[digest]
    else:
        shelf.stored[digest] += b"x"
    with pytest.raises(CorruptBlobError) as caught:
        (load_golden if role == "golden" else lambda m, s: load_pipeline(m, s, POLICY))(manifest, shelf)
    assert caught.value.facts == {"digest": digest, "path": path, "ref": "m:1.0.0", "damage": damage}


def test_a_version_that_is_not_what_it_says_is_named():
    draft = pack(LinearRegression().fit(X, X[:, 0]), example=X)
    manifest = draft.manifest("m", "1.0.0")
    import msgspec

    lying = msgspec.structs.replace(manifest, flavor="xgboost")
    for check in (load_pipeline, inspect_version):
        with pytest.raises(LoadFailedError, match=r"`m:1\.0\.0` cannot be loaded"):
            check(lying, Shelf(draft), POLICY)


def test_a_version_can_be_inspected_without_loading_it():
    columns = StandardScaler().fit(X)
    draft = pack(LinearRegression().fit(X, X[:, 0]), preprocessor=columns, example=X)
    shelf = Shelf(draft)
    inspect_version(draft.manifest("m", "1.0.0"), shelf, POLICY)
    assert len(shelf.reads) == 2
    trusting = TrustPolicy(trusted_types=frozenset({f"{__name__}.Forgetful"}))
    signature = Signature((TensorSpec("x", "FP64", (-1, 3)),), (TensorSpec("predict", "FP64", (-1,)),))
    untrusted = pack(Forgetful().fit(X, X[:, 0]), signature=signature, policy=trusting)
    with pytest.raises(UntrustedTypesError):
        inspect_version(untrusted.manifest("m", "1.0.0"), Shelf(untrusted), POLICY)


def test_a_version_without_golden_requests_has_none():
    signature = Signature((TensorSpec("x", "FP64", (-1, 3)),), (TensorSpec("predict", "FP64", (-1,)),))
    draft = pack(LinearRegression().fit(X, X[:, 0]), signature=signature)
    assert load_golden(draft.manifest("m", "1.0.0"), Shelf(draft)) is None
