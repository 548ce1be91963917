"""Linear models of scikit-learn as the few numpy operations that they are: 10 us a call instead of 170.

Around its arithmetic scikit-learn asks which kind of array it was given, whether it is fitted, and for names of
columns, every time. Here that is asked once, when the model is loaded. What is compiled does the same operations in the
same order, so its answers are those of scikit-learn to the last bit. A model is compiled only if its methods are the
very functions whose operations stand here, and only if some rows then get the very same answers; so another version of
scikit-learn, or a class of somebody else, costs speed, never an answer.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np

from crossfade.core.tensors import Array, Tensors
from crossfade.registry.flavors.answers import LABELS, PROBABILITIES, tidy

Step = Callable[[Array], Array]

_UNFIT = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""What comes of estimators that were not fitted, or whose files were made by hand."""

_PROBES = (1, 2, 7, 64)
"""Rows of the calls by which what was compiled is compared: BLAS has other ways for one row than for many."""
_MAX_COLUMNS = 4096
"""With more, the arithmetic is what a call costs."""


class CompiledLinear:
    """A fitted linear model, alone or behind standard scalers, as arithmetic.

    Args:
        steps: What is done to the rows first.
        scores: What makes scores of them.
        classes: The labels of a classifier; None for a regression.
        features: How many columns the rows have.
    """

    def __init__(self, steps: list[Step], scores: Step, classes: Array | None, features: int) -> None:
        from scipy.special import expit  # comes with scikit-learn

        self._expit = expit
        self._steps = steps
        self._scores = scores
        self._classes = classes
        self._features = features

    def takes(self, rows: object) -> bool:
        """Tell whether these rows can be answered here; all others are for scikit-learn, errors included."""
        return (
            type(rows) is np.ndarray
            and rows.ndim == 2
            and rows.shape[1] == self._features
            and len(rows) > 0
            and rows.dtype.char in "df"
        )

    def predict(self, rows: Array, wanted: frozenset[str]) -> Tensors:
        """Answer as the estimator does."""
        for step in self._steps:
            rows = step(rows)
        scores = self._scores(rows)
        if self._classes is None:
            return {LABELS: scores}
        binary = scores.ndim == 1
        answers: Tensors = {}
        if LABELS in wanted:
            best = (scores > 0).astype(np.intp) if binary else scores.argmax(axis=1)
            answers[LABELS] = tidy(self._classes.take(best, axis=0))
        if PROBABILITIES in wanted:
            answers[PROBABILITIES] = self._of_two(scores) if binary else _softmax(scores)
        return answers

    def _of_two(self, scores: Array) -> Array:
        """Return the probabilities of two classes."""
        answer = np.empty((len(scores), 2), scores.dtype)
        self._expit(scores, out=answer[:, 1])
        np.subtract(1, answer[:, 1], out=answer[:, 0])
        return answer


def compile_linear(estimator: Any) -> CompiledLinear | None:
    """Return what answers in the stead of a fitted estimator that takes arrays; None where nothing could be compiled.

    Example:
        >>> from sklearn.linear_model import LinearRegression
        >>> model = LinearRegression().fit([[0.0], [1.0]], [0.0, 2.0])
        >>> compile_linear(model).predict(np.array([[0.5]]), frozenset({"predict"}))["predict"].round(9)
        array([1.])
    """
    *first, last = [step for _, step in estimator.steps] if _is_pipeline(estimator) else [estimator]
    try:
        steps, scores, columns = [_scaling(step) for step in first], _scores_of(last), int(estimator.n_features_in_)
        if scores is None or None in steps or columns > _MAX_COLUMNS:
            return None
        classes = last.classes_ if hasattr(last, "decision_function") else None
        compiled = CompiledLinear([step for step in steps if step is not None], scores, classes, columns)
        return compiled if _agree(estimator, compiled, columns) else None
    except _UNFIT:  # scikit-learn knows what to say about it
        return None


def _is_pipeline(estimator: object) -> bool:
    from sklearn.pipeline import Pipeline

    return type(estimator) is Pipeline


def _scaling(step: Any) -> Step | None:
    """Return what a standard scaler does; None for any other step."""
    from sklearn.preprocessing import StandardScaler

    if type(step) is not StandardScaler:
        return None
    mean, scale = step.mean_ if step.with_mean else None, step.scale_ if step.with_std else None

    def scaled(rows: Array) -> Array:
        centred = rows if mean is None else rows - mean.astype(rows.dtype)
        return centred if scale is None else centred / scale.astype(rows.dtype)

    return scaled


def _scores_of(model: Any) -> Step | None:
    """Return what makes scores of rows; None when another function of scikit-learn does, or its coefficients differ."""
    from sklearn.linear_model import ElasticNet, LogisticRegression
    from sklearn.linear_model._base import LinearClassifierMixin, LinearModel

    kind = type(model)
    classifies = hasattr(kind, "decision_function")
    if classifies:
        known = (
            kind.predict is LinearClassifierMixin.predict
            and kind.decision_function is LinearClassifierMixin.decision_function
            and getattr(kind, PROBABILITIES, LogisticRegression.predict_proba) is LogisticRegression.predict_proba
        )
    else:
        known = getattr(kind, "_decision_function", None) in {
            LinearModel._decision_function,
            ElasticNet._decision_function,
        }
    if not known or not kind.__module__.startswith("sklearn.") or type(model.coef_) is not np.ndarray:
        return None
    weights, intercept = model.coef_.T, model.intercept_
    one_column = classifies and weights.ndim == 2 and weights.shape[1] == 1

    def scores(rows: Array) -> Array:
        found: Array = rows @ weights + intercept
        return found.reshape(-1) if one_column else found

    return scores


def _softmax(scores: Array) -> Array:
    """Return the probabilities of several classes; the largest score is taken away first, so that nothing overflows."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def _agree(estimator: Any, compiled: CompiledLinear, columns: int) -> bool:
    """Compare the answers for some rows, bit by bit."""
    random = np.random.default_rng(0)
    wanted = frozenset(name for name in (LABELS, PROBABILITIES) if hasattr(estimator, name))
    for dtype, count in product((np.float64, np.float32), _PROBES):
        rows = random.normal(scale=3.0, size=(count, columns)).astype(dtype)
        with np.errstate(all="ignore"):
            for name, ours in compiled.predict(rows, wanted).items():
                theirs = tidy(getattr(estimator, name)(rows))
                if ours.dtype != theirs.dtype or not np.array_equal(ours, theirs):
                    return False
    return True
