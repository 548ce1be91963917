"""Simulated experiments: thousands at once, looked at many times, analysed with the functions that users call."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from crossfade.methods.stats.contrast import contrast
from crossfade.methods.stats.cuped import adjusted, adjustment
from crossfade.methods.stats.gradient import Mean, Ratio, estimate
from crossfade.methods.stats.moments import Moments
from crossfade.methods.stats.power import Population
from crossfade.methods.stats.proportions import Count, proportion
from crossfade.methods.stats.quantiles import from_order_statistics, levels
from crossfade.methods.stats.values import Contrast

CHUNK = 100
"""Experiments that are simulated together; more would fill the memory."""
P90 = 1.2815515655446004


@dataclass(frozen=True)
class Kind:
    """A kind of metric: how its values come about, and how it is analysed.

    Attributes:
        draw: `(random, shape, effect)` gives rows `(*shape, columns)`.
        scale: Of the contrast.
        truth: The contrast that an effect really makes.
        effect: One that an experiment of 50 looks has a fair chance to see.
        population: For the calculator; None where it has no say.
    """

    draw: Callable
    scale: str
    truth: Callable[[float], float]
    effect: float
    population: Population | None = None


def _mean(random, shape, effect):
    return (random.gamma(2.0, 1.0, size=shape) + effect)[..., None]


def _proportion(random, shape, effect):
    return (random.random(shape) < 0.1 + effect)[..., None].astype(float)


def _count(random, shape, effect):
    return random.poisson(random.gamma(1.0, 1.5 * (1 + effect), size=shape))[..., None].astype(float)


def _ratio(random, shape, effect):
    views = 1 + random.poisson(4.0, size=shape)
    taste = random.beta(2.0, 8.0, size=shape) * (1 + effect)
    return np.stack([random.binomial(views, taste), views], axis=-1).astype(float)


def _cuped(random, shape, effect):
    before = random.gamma(3.0, 1.0, size=shape)
    return np.stack([0.9 * before + random.normal(size=shape) + 1.0 + effect, before], axis=-1)


def _quantile(random, shape, effect):
    return (random.lognormal(0.0, 0.5, size=shape) * (1 + effect))[..., None]


KINDS = {
    "mean": Kind(_mean, "absolute", lambda effect: effect, 0.08, Population(2.0, 2.0)),
    "proportion": Kind(_proportion, "absolute", lambda effect: effect, 0.017, Population(0.1, kind="proportion")),
    "count": Kind(_count, "log", np.log1p, 0.075),
    "ratio": Kind(_ratio, "relative", lambda effect: effect, 0.045),
    "cuped": Kind(_cuped, "absolute", lambda effect: effect, 0.056, Population(3.7, 3.43, unexplained=1 - 2.43 / 3.43)),
    "quantile": Kind(_quantile, "absolute", lambda effect: effect * float(np.exp(0.5 * P90)), 0.035),
}


@dataclass(frozen=True)
class Stream:
    """Contrasts of many experiments at many looks.

    Attributes:
        values: `(experiments, looks)`.
        errors: Their standard errors.
        df: Their degrees of freedom.
        n: Units of both variants at each look.
        last: The contrasts at the end.
        truth: What they estimate.
    """

    values: np.ndarray
    errors: np.ndarray
    df: np.ndarray
    n: np.ndarray
    last: list[Contrast]
    truth: float

    @property
    def z(self):
        return self.values / self.errors

    @property
    def distance(self):
        """How far the estimates are from the truth, in standard errors."""
        return np.abs(self.values - self.truth) / self.errors


def simulate(name, *, experiments, looks=50, per_look=100, effect=0.0, seed=0):
    """Run experiments of one kind: two variants, `per_look` new units of each between looks."""
    kind, values, errors, df, last = KINDS[name], [], [], [], []
    for start in range(0, experiments, CHUNK):
        random = np.random.default_rng([seed, start])
        shape = (min(CHUNK, experiments - start), looks, per_look)
        rows = [kind.draw(random, shape, each) for each in (0.0, effect)]
        made = _quantiles(rows, looks) if name == "quantile" else _means(name, rows, looks)
        values += [[each.value for each in experiment] for experiment in made]
        errors += [[each.standard_error for each in experiment] for experiment in made]
        df += [[each.df for each in experiment] for experiment in made]
        last += [experiment[-1] for experiment in made]
    n = 2 * per_look * np.arange(1, looks + 1)
    return Stream(np.array(values), np.array(errors), np.array(df), n, last, float(kind.truth(effect)))


def _means(name, rows, looks):
    so_far = [_accumulated(Moments.of(each), looks) for each in rows]
    return [
        [_contrast(name, [so_far[arm][look][experiment] for arm in (0, 1)]) for look in range(looks)]
        for experiment in range(rows[0].shape[0])
    ]


def _accumulated(cells, looks):
    """Moments of all units until each look, merged from what came between looks."""
    total, found = Moments.empty(cells.mean.shape[-1], (cells.n.shape[0],)), []
    for look in range(looks):
        total = total.merge(Moments(cells.n[:, look], cells.mean[:, look], cells.m2[:, look]))
        found.append(total)
    return found


def _contrast(name, arms):
    if name == "proportion":
        found = [proportion(Count(round(float(arm.mean[0]) * int(arm.n)), int(arm.n))) for arm in arms]
    elif name == "cuped":
        fitted = adjustment(Moments.stack(arms).within(), Mean(0), (Mean(1),))
        found = [adjusted(arm, Mean(0), fitted) for arm in arms]
    else:
        found = [estimate(arm, Ratio(0, 1) if name == "ratio" else Mean(0)) for arm in arms]
    return contrast(*found, KINDS[name].scale)


def _quantiles(rows, looks):
    experiments, _, per_look, _ = rows[0].shape
    flat = [each.reshape(experiments, -1) for each in rows]
    made = [[] for _ in range(experiments)]
    for look in range(1, looks + 1):
        n = look * per_look
        wanted = levels(0.9, n)
        found = [np.quantile(each[:, :n], [wanted.lower, 0.9, wanted.upper], axis=1) for each in flat]
        for experiment in range(experiments):
            arms = [
                from_order_statistics(*(float(each[i, experiment]) for i in (1, 0, 2)), level=0.9, n=n)
                for each in found
            ]
            made[experiment].append(contrast(*arms))
    return made
