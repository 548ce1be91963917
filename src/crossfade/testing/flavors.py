"""The specification of a flavor: inherit from `FlavorContract` and say what to save and what to ask.

Example:
    >>> class TestMyFlavor(FlavorContract):  # doctest: +SKIP
    ...     flavor = "mine"
    ...     package = "mylibrary"
    ...
    ...     @pytest.fixture
    ...     def model(self):
    ...         return mylibrary.fit(...)
    ...
    ...     @pytest.fixture
    ...     def inputs(self):
    ...         return {"x": np.ones((4, 3))}
"""

from __future__ import annotations

import random
import sys
from contextlib import suppress
from typing import ClassVar

import numpy as np
import pytest

from crossfade.core.tensors import DTYPES, Tensors, row_count
from crossfade.errors import CodeNotAllowedError, LoadFailedError, MissingExtraError
from crossfade.registry.flavors.backends import flavor_for, flavor_for_file, flavor_named
from crossfade.registry.flavors.port import Flavor, Trust, TrustPolicy

FOREIGN_HEADS: dict[str, bytes] = {
    "notes.md": b"# a text\n",
    "picture.png": b"\x89PNG\r\n\x1a\n",
    "archive.zip": b"PK\x03\x04",
    "empty": b"",
    "program": b"\x7fELF",
}
"""Starts of files that no flavor may take for its own."""

TRUSTING = TrustPolicy(allow_code=True)
SEED = 20_130_101


class FlavorContract:
    """Tests that every flavor passes."""

    flavor: ClassVar[str]
    """Its name in `backends`."""
    package: ClassVar[str]
    """The import name of a package that `load` cannot do without."""
    flips: ClassVar[int] = 60
    """How many damaged files are tried; a flipped bit may go unnoticed, but must not raise anything unexpected."""

    @pytest.fixture
    def subject(self) -> Flavor:
        """The flavor."""
        return flavor_named(self.flavor)

    @pytest.fixture
    def files(self, subject: Flavor, model: object) -> dict[str, bytes]:
        """The saved model."""
        return subject.save(model)

    def ask(self, subject: Flavor, files: dict[str, bytes], inputs: Tensors) -> Tensors:
        """Load the files and ask for everything."""
        runnable = subject.load(files, TRUSTING)
        return runnable.predict(inputs, frozenset(spec.name for spec in runnable.outputs))

    def test_the_loaded_model_answers_like_the_object(
        self, subject: Flavor, files: dict[str, bytes], model: object, inputs: Tensors
    ) -> None:
        """Saving and loading loses nothing."""
        original = subject.wrap(model)
        expected = original.predict(inputs, frozenset(spec.name for spec in original.outputs))
        answers = self.ask(subject, files, inputs)
        assert set(answers) == set(expected)
        for name, value in expected.items():
            if value.dtype.kind == "f":
                np.testing.assert_allclose(answers[name], value, rtol=1e-6, atol=1e-7)
            else:
                np.testing.assert_array_equal(answers[name], value)

    def test_answers_are_arrays_with_a_row_each(
        self, subject: Flavor, files: dict[str, bytes], inputs: Tensors
    ) -> None:
        """Outputs have the rows of the inputs and a datatype of the protocol."""
        answers = self.ask(subject, files, inputs)
        assert answers
        for value in answers.values():
            assert len(value) == row_count(inputs)
            assert value.dtype in DTYPES.values()

    def test_what_is_declared_is_what_is_answered(
        self, subject: Flavor, files: dict[str, bytes], inputs: Tensors
    ) -> None:
        """The declared outputs of classifiers have their classes' width."""
        runnable = subject.load(files, TRUSTING)
        answers = runnable.predict(inputs, frozenset(spec.name for spec in runnable.outputs))
        assert set(answers) == {spec.name for spec in runnable.outputs}
        if runnable.classes:
            assert answers["predict_proba"].shape[1] == len(runnable.classes)
            assert set(answers["predict"].tolist()) <= set(runnable.classes)

    def test_only_what_is_wanted_is_answered(self, subject: Flavor, files: dict[str, bytes], inputs: Tensors) -> None:
        """A wanted output is there when it is asked for alone."""
        runnable = subject.load(files, TRUSTING)
        for spec in runnable.outputs:
            assert spec.name in runnable.predict(inputs, frozenset({spec.name}))

    def test_one_row_is_answered_as_in_a_batch(self, subject: Flavor, files: dict[str, bytes], inputs: Tensors) -> None:
        """Rows do not influence each other."""
        together = self.ask(subject, files, inputs)
        alone = self.ask(subject, files, {name: value[:1] for name, value in inputs.items()})
        for name, value in alone.items():
            if value.dtype.kind == "f":
                np.testing.assert_allclose(value, together[name][:1], rtol=1e-4, atol=1e-5)
            else:
                np.testing.assert_array_equal(value, together[name][:1])

    def test_equal_models_give_equal_bytes(
        self, subject: Flavor, files: dict[str, bytes], model: object, inputs: Tensors
    ) -> None:
        """Saving again, also after predicting, gives the same bytes, so that registering again converges."""
        runnable = subject.wrap(model)
        runnable.predict(inputs, frozenset(spec.name for spec in runnable.outputs))
        assert subject.save(model) == files

    def test_it_recognises_its_own_and_nothing_else(self, subject: Flavor, model: object) -> None:
        """The object is detected, its class and plain data are not."""
        assert subject.recognises(model)
        assert flavor_for(model).name == subject.name
        for foreign in (None, 3, "text", [1.0], {}, object(), type(model), np.ones(3)):
            assert not subject.recognises(foreign)

    def test_it_detects_its_own_files_and_no_others(self, subject: Flavor, files: dict[str, bytes]) -> None:
        """The main file is detected from its name and its first 4 KiB."""
        path, data = next(iter(files.items()))
        assert subject.detects(path, data[:4096])
        assert flavor_for_file(path, data[:4096]).name == subject.name
        for foreign, head in FOREIGN_HEADS.items():
            assert not subject.detects(foreign, head)

    def test_damaged_files_fail_to_load(self, subject: Flavor, files: dict[str, bytes]) -> None:
        """Empty, truncated and foreign content is refused with a typed error, whichever file it is."""
        for path, data in files.items():
            cuts = (1, 7, len(data) // 3, len(data) // 2, len(data) - 1)
            for damaged in (b"", b"\x00" * 64, b"garbage" * 50, b"{}", b"[]", *(data[:cut] for cut in cuts)):
                with pytest.raises(LoadFailedError):
                    subject.load({**files, path: damaged}, TRUSTING)
        with pytest.raises(LoadFailedError):
            subject.load({}, TRUSTING)

    def test_a_flipped_bit_never_raises_anything_unexpected(self, subject: Flavor, files: dict[str, bytes]) -> None:
        """Whatever is wrong in a file, loading gives a model or a typed error."""
        dice = random.Random(SEED)  # noqa: S311 - reproducible, not secret
        path, data = next(iter(files.items()))
        for _ in range(self.flips):
            damaged = bytearray(data)
            damaged[dice.randrange(len(data))] ^= 1 << dice.randrange(8)
            with suppress(LoadFailedError):
                subject.load({**files, path: bytes(damaged)}, TRUSTING)

    def test_a_missing_package_is_named(
        self, subject: Flavor, files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The error says what to install."""
        for module in [name for name in sys.modules if name.partition(".")[0] == self.package]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setitem(sys.modules, self.package, None)
        with pytest.raises(MissingExtraError, match=self.package) as caught:
            subject.load(files, TRUSTING)
        assert f"crossfade[{subject.extra}]" in caught.value.hint

    def test_code_needs_permission(self, subject: Flavor, files: dict[str, bytes]) -> None:
        """A format that runs code is refused by default, already when it is inspected; others are not."""
        if subject.trust is Trust.CODE:
            for refuse in (subject.inspect, subject.load):
                with pytest.raises(CodeNotAllowedError):
                    refuse(files, TrustPolicy())
        else:
            subject.inspect(files, TrustPolicy())
            subject.load(files, TrustPolicy())
