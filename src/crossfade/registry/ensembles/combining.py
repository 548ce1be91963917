"""How answers become one answer. Arrays in, arrays out; m members, n rows.

`good` (m, n) says which answers there are: a member that is missing in a row has no part in that row, and the weights
of the others count in the proportions that they have.

Source: the definitions of scikit-learn's `VotingRegressor`, `VotingClassifier` and `StackingClassifier`, whose results
are the same when every member answers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from crossfade.core.tensors import Array


def average(values: Sequence[Array], weights: Array, good: Array) -> Array:
    """Return the weighted mean over members.

    Args:
        values: m arrays of numbers, (n, ...) each; what stands where `good` is false is not looked at.
        weights: (m,) float64, positive.
        good: (m, n) bool, at least one true per row.

    Returns:
        (n, ...) float64.

    Example:
        >>> average([np.array([1.0, 5.0]), np.array([3.0, 9.0])], np.array([3.0, 1.0]), np.array([[1, 1], [1, 0]]) > 0)
        array([1.5, 5. ])
    """
    stacked = np.stack([np.asarray(value, dtype=np.float64) for value in values])
    parts = weights.reshape(-1, *(1,) * (stacked.ndim - 1))
    if not good.all():
        present = good.reshape(*good.shape, *(1,) * (stacked.ndim - 2))
        stacked, parts = np.where(present, stacked, 0.0), np.where(present, parts, 0.0)
    with np.errstate(over="ignore", invalid="ignore"):
        mean: Array = (stacked * parts).sum(axis=0) / parts.sum(axis=0)
    if not np.isfinite(mean).all():  # the sum of huge numbers overflows where their mean does not
        mean = (stacked * (parts / parts.sum(axis=0))).sum(axis=0)
    return mean


def vote(labels: Sequence[Array], weights: Array, good: Array) -> Array:
    """Return, per row, the label with the most weight behind it; of equals the smallest, as `numpy.unique` orders.

    Args:
        labels: m arrays of labels, (n,) each.
        weights: (m,) float64, positive.
        good: (m, n) bool, at least one true per row.

    Returns:
        (n,) in the dtype of the labels.

    Example:
        >>> ballots = [np.array(["no"], object), np.array(["yes"], object)]
        >>> vote(ballots, np.array([1.0, 1.0]), np.array([[True], [True]]))
        array(['no'], dtype=object)
    """
    stacked = np.stack(labels)
    known, codes_of_good = np.unique(stacked[good], return_inverse=True)
    codes = np.full(good.shape, -1)
    codes[good] = codes_of_good.ravel()
    support = np.zeros(good.shape)
    for weight, ballot, counts in zip(weights, codes, good, strict=True):
        support += np.where((codes == ballot) & counts, weight, 0.0)
    support[~good] = -1.0
    winning = support == support.max(axis=0)
    return np.asarray(known[np.where(winning, codes, len(known)).min(axis=0)])


def features(answers: Sequence[Array], *, binary: bool) -> Array:
    """Return the columns that one member gives to the stacker.

    Args:
        answers: Arrays (n,) or (n, k).
        binary: They are the probabilities of two classes, of which the second says everything.

    Returns:
        (n, columns) float64.
    """
    columns = [np.asarray(answer, dtype=np.float64).reshape(len(answer), -1) for answer in answers]
    if binary:
        columns = [column[:, 1:] for column in columns]
    return np.concatenate(columns, axis=1)
