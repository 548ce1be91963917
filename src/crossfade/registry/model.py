"""A model of your own: subclass `Model` when no safe format can hold what you do.

It is saved with its code (flavor `code`), so a server takes it only when its policy trusts the publishers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

from crossfade.core.tensors import Signature, Tensors, TensorSpec


class Model(ABC):
    """Answers exactly four questions: what it predicts, what it is, what it needs, and whether an input will do.

    Example:
        >>> class Total(Model):
        ...     def predict(self, inputs):
        ...         return inputs["x"].sum(axis=1)
        ...
        ...     def required_inputs(self):
        ...         return (TensorSpec("x", "FP64", (-1, 2)),)
    """

    @abstractmethod
    def predict(self, inputs: Any) -> Any:
        """Return the answers for some rows.

        Args:
            inputs: What passed `validate`: a dict of arrays by input name, or what the preprocessor made of it.

        Returns:
            One array, which becomes the output `predict`, or a dict of arrays by output name. The first dimension
            counts rows.
        """

    @abstractmethod
    def required_inputs(self) -> tuple[TensorSpec, ...]:
        """Return what a request must hold."""

    def info(self) -> dict[str, Any]:
        """Return what people should know about the model: JSON values, recorded in the card as parameters."""
        return {}

    def validate(self, inputs: Tensors) -> Tensors:
        """Return the inputs if they will do, possibly in other dtypes. Refine it to check what a type cannot say.

        Raises:
            SignatureMismatchError: They will not do.
        """
        return Signature(inputs=self.required_inputs(), outputs=()).check(inputs)
