"""`Predictor`: one loaded version as a Python object, wherever its model runs.

`crossfade.load` gives one whose model runs in this process; with a server, one that asks it. Both check
inputs against the signature here, before anything is sent or computed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from html import escape
from typing import Any

import msgspec
import numpy as np

from crossfade.core.conversion import to_tensors
from crossfade.core.tensors import Array, Signature, Tensors, row_count
from crossfade.errors import SignatureMismatchError
from crossfade.registry.versions import Card, Version

Answer = Callable[[Tensors, frozenset[str]], Tensors]

LABELS = "predict"
PROBABILITIES = "predict_proba"
_LONG_WORK_ROWS = 10_000


class PredictorInfo(msgspec.Struct, frozen=True):
    """What a predictor answers for: the version, its signature and its card."""

    version: Version
    signature: Signature
    card: Card = Card()

    @property
    def ref(self) -> str:
        """`name:1.2.0`."""
        return self.version.ref

    def _repr_html_(self) -> str:
        rows = [("version", self.ref), ("stage", self.version.stage), ("flavor", self.version.flavor)]
        rows += [(f"evaluation: {name}", f"{value:.6g}") for name, value in sorted(self.version.evaluation.items())]
        rows += [(f"input: {spec.name}", spec.describe()) for spec in self.signature.inputs]
        rows += [(f"output: {spec.name}", spec.describe()) for spec in self.signature.outputs]
        cells = "".join(f"<tr><th>{escape(name)}</th><td>{escape(value)}</td></tr>" for name, value in rows)
        return f"<table>{cells}</table>"


class Predictor:
    """Predicts with one pinned version; moving an alias afterwards does not change it.

    Example:
        >>> predictor = crossfade.load("flight_delay@champion")  # doctest: +SKIP
        >>> predictor.predict(flights, probabilities=True).shape  # doctest: +SKIP
        (20, 2)
    """

    def __init__(self, info: PredictorInfo, answer: Answer) -> None:
        self.info = info
        self._answer = answer

    def predict(self, inputs: object, *, probabilities: bool = False) -> Array:
        """Predict all rows in one call.

        Args:
            inputs: A pandas or polars frame, a numpy array, a dict of arrays, or a list of row dicts.
            probabilities: Return the (n, k) float64 probabilities of `info.signature.classes` instead of labels.

        Returns:
            (n, ...) array, one entry per row of `inputs`; the first output when there is no `predict`.

        Raises:
            SignatureMismatchError: The inputs do not fit, or the version has no probabilities.
            PredictionError: The model failed.
        """
        output = self._output(probabilities)
        return self._answer(self._checked(inputs), frozenset((output,)))[output]

    def predict_batch(
        self, inputs: object, *, batch_size: int = 1000, probabilities: bool = False, progress: bool | None = None
    ) -> Array:
        """Predict many rows in pieces, so that memory stays bounded.

        Args:
            inputs: As for `predict`.
            batch_size: Rows per piece.
            probabilities: As for `predict`.
            progress: Show a bar on stderr; by default for more than 10,000 rows on a terminal.
        """
        if batch_size < 1:
            raise SignatureMismatchError(field="batch_size", expected="at least 1", given=str(batch_size))
        output = self._output(probabilities)
        tensors = self._checked(inputs)
        rows = row_count(tensors)
        if rows == 0:
            return self._answer(tensors, frozenset((output,)))[output]
        starts = _with_progress(range(0, rows, batch_size), rows, progress, self.info.ref)
        pieces = [
            self._answer({name: value[i : i + batch_size] for name, value in tensors.items()}, frozenset((output,)))
            for i in starts
        ]
        return np.concatenate([piece[output] for piece in pieces])

    def validate(self, inputs: object) -> None:
        """Check inputs against the signature without predicting.

        Raises:
            SignatureMismatchError: Names the field, what is expected and what was given.
        """
        self._checked(inputs)

    def _checked(self, inputs: object) -> Tensors:
        try:
            return self.info.signature.check(to_tensors(inputs, self.info.signature.inputs))
        except SignatureMismatchError as error:
            facts: dict[str, Any] = error.facts | {"ref": self.info.ref}
            raise SignatureMismatchError(**facts) from error

    def _output(self, probabilities: bool) -> str:
        names = [spec.name for spec in self.info.signature.outputs]
        if probabilities:
            return self.info.signature.output(PROBABILITIES).name
        return LABELS if LABELS in names else names[0]

    def __repr__(self) -> str:
        """Name the version."""
        return f"<Predictor {self.info.ref}>"

    def _repr_html_(self) -> str:
        return self.info._repr_html_()


def _with_progress(starts: range, rows: int, progress: bool | None, title: str) -> Iterator[int] | range:
    if progress is False or (progress is None and rows <= _LONG_WORK_ROWS):
        return starts
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    if progress is None and not console.is_terminal:
        return starts
    return iter(track(starts, description=title, console=console))
