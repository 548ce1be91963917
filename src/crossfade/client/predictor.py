"""`AsyncPredictor`: one pinned version on a server, asked without holding up an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from crossfade.core.tensors import Array, Tensors
from crossfade.serving.predictor import PredictorInfo, in_pieces, joined, wanted_output

Answer = Callable[[Tensors, frozenset[str]], Awaitable[Tensors]]


class AsyncPredictor:
    """The asynchronous twin of `crossfade.serving.predictor.Predictor`: the same verbs and arguments, awaited.

    Inputs are converted and checked on a thread, because big ones take long.

    Example:
        >>> predictor = await client.load("flight_delay@champion")  # doctest: +SKIP
        >>> await predictor.predict(flights, probabilities=True)  # doctest: +SKIP
    """

    def __init__(self, info: PredictorInfo, answer: Answer) -> None:
        self.info = info
        self._answer = answer

    async def predict(self, inputs: object, *, probabilities: bool = False) -> Array:
        """Predict all rows in one call.

        Args:
            inputs: A pandas or polars frame, a numpy array, a dict of arrays, or a list of row dicts.
            probabilities: Return the (n, k) float64 probabilities of `info.signature.classes` instead of labels.

        Raises:
            SignatureMismatchError: The inputs do not fit, or the version has no probabilities.
            PredictionError: The model failed.
        """
        output = wanted_output(self.info.signature, probabilities=probabilities)
        tensors = await asyncio.to_thread(self.info.check, inputs)
        return (await self._answer(tensors, frozenset((output,))))[output]

    async def predict_batch(
        self, inputs: object, *, batch_size: int = 1000, probabilities: bool = False, progress: bool | None = None
    ) -> Array:
        """Predict many rows in pieces, one after the other.

        Args:
            inputs: As for `predict`.
            batch_size: Rows per piece.
            probabilities: As for `predict`.
            progress: Show a bar on stderr; by default for more than 10,000 rows on a terminal.
        """
        output = wanted_output(self.info.signature, probabilities=probabilities)
        tensors = await asyncio.to_thread(self.info.check, inputs)
        pieces = in_pieces(tensors, batch_size, progress=progress, title=self.info.ref)
        return joined([await self._answer(piece, frozenset((output,))) for piece in pieces])[output]

    async def validate(self, inputs: object) -> None:
        """Check inputs against the signature without predicting.

        Raises:
            SignatureMismatchError: Names the field, what is expected and what was given.
        """
        await asyncio.to_thread(self.info.check, inputs)

    def __repr__(self) -> str:
        """Name the version."""
        return f"<AsyncPredictor {self.info.ref}>"

    def _repr_html_(self) -> str:
        return self.info._repr_html_()
