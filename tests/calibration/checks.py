"""What calibration promises, as figures with the limits that they must keep."""

import math
from dataclasses import dataclass

import numpy as np

from crossfade.methods.stats.confidence_sequence import log_evidence, mixture, width
from crossfade.methods.stats.error_rate import WORSE, ErrorRate, stakes
from crossfade.methods.stats.group_sequential import boundaries, looks, normal_score
from crossfade.methods.stats.multiplicity import e_benjamini_hochberg
from crossfade.methods.stats.power import Design, power
from crossfade.methods.stats.sample_ratio import ALARM, SampleRatio
from crossfade.methods.stats.sequential_power import always_valid_power, group_sequential_power
from crossfade.methods.stats.welch import welch
from tests.calibration.streams import KINDS, simulate

ALPHA = 0.05


@dataclass(frozen=True)
class Figure:
    """One measured figure and its limits."""

    name: str
    value: float
    low: float
    high: float

    @property
    def kept(self):
        return bool(self.low <= self.value <= self.high)


def _error(rate, count):
    return math.sqrt(rate * (1 - rate) / count)


def at_most(name, value, rate, count):
    return Figure(name, float(value), 0.0, rate + 3 * _error(rate, count))


def about(name, value, rate, count, slack=0.0):
    return Figure(name, float(value), rate - 3 * _error(rate, count) - slack, rate + 3 * _error(rate, count) + slack)


def _widths(n, alternative="two-sided"):
    return width(n.astype(float), ALPHA, mixture(ALPHA, alternative=alternative), alternative)


def false_positives(name, experiments, seed=1):
    """A/A: nothing differs, and 50 looks are taken at it."""
    stream = simulate(name, experiments=experiments, seed=seed)
    z, scores, steps = stream.z, normal_score(stream.z, stream.df), z_looks(stream)
    yield at_most(
        f"{name}: false positives, always valid", (np.abs(z) > _widths(stream.n)).any(axis=1).mean(), ALPHA, experiments
    )
    one_sided = (z > _widths(stream.n, "greater")).any(axis=1).mean()
    yield at_most(f"{name}: false positives, always valid, one-sided", one_sided, ALPHA, experiments)
    for spending in ("obrien_fleming", "pocock"):
        crossed = (np.abs(scores) > boundaries(steps, ALPHA, spending)).any(axis=1).mean()
        yield at_most(f"{name}: false positives, group sequential {spending}", crossed, ALPHA, experiments)
    significant = np.mean([welch(each, ALPHA).significant for each in stream.last])
    yield about(f"{name}: false positives, fixed", significant, ALPHA, experiments)


def z_looks(stream):
    return looks(stream.values.shape[1])


def coverage_and_power(name, experiments, seed=2):
    """A/B: something differs; intervals must hold it, and it is seen as often as the calculator says."""
    kind = KINDS[name]
    stream = simulate(name, experiments=experiments, effect=kind.effect, seed=seed)
    held = (stream.distance <= _widths(stream.n)).all(axis=1).mean()
    yield Figure(f"{name}: coverage at all looks, always valid", held, 1 - ALPHA - 3 * _error(ALPHA, experiments), 1.0)
    effects = [welch(each, ALPHA) for each in stream.last]
    truth = math.expm1(stream.truth) if KINDS[name].scale == "log" else stream.truth
    inside = [each.interval[0] <= truth <= each.interval[1] for each in effects]
    yield about(f"{name}: coverage, fixed", np.mean(inside), 1 - ALPHA, experiments)
    if kind.population is None:
        return
    n, design = float(stream.n[-1]), Design(ALPHA)
    z = np.abs(stream.z)
    seen = {
        "fixed": (np.mean([each.significant for each in effects]), power(kind.population, kind.effect, n, design)),
        "always valid": (
            (z > _widths(stream.n)).any(axis=1).mean(),
            always_valid_power(kind.population, kind.effect, n, design, times=len(stream.n)),
        ),
        "group sequential": (
            (normal_score(z, stream.df) > boundaries(z_looks(stream), ALPHA)).any(axis=1).mean(),
            group_sequential_power(kind.population, kind.effect, n, design, times=len(stream.n)),
        ),
    }
    for mode, (found, expected) in seen.items():
        slack = max(0.03, 3 * _error(expected, experiments))
        yield Figure(
            f"{name}: power, {mode} (calculator {expected:.3f})", float(found), expected - slack, expected + slack
        )


def many_metrics(experiments, seed=6, metrics=10, times=50):
    """Ten correlated metrics, three with an effect; stopped at the first look at which e-BH rejects anything."""
    random, ratio, wrong, right = np.random.default_rng(seed), mixture(ALPHA), [], []
    drift = np.where(np.arange(metrics) < 3, 4.0, 0.0)
    steps, n = looks(times), 10_000.0 * looks(times)
    for _ in range(experiments):
        noise = 0.7 * random.normal(size=(times, metrics)) + math.sqrt(0.51) * random.normal(size=(times, 1))
        z = (np.cumsum(noise, axis=0) / math.sqrt(times) + drift * steps[:, None]) / np.sqrt(steps)[:, None]
        evidence = log_evidence(z, n[:, None], ratio)
        rejections = (e_benjamini_hochberg(each, ALPHA) for each in evidence)
        rejected = next((each for each in rejections if each.any()), np.zeros(metrics, dtype=bool))
        wrong.append(rejected[3:].sum() / max(rejected.sum(), 1))
        right.append(rejected[:3].any())
    yield at_most("many metrics: false discovery rate of e-BH under peeking", np.mean(wrong), ALPHA, experiments)
    yield Figure("many metrics: something true is found", float(np.mean(right)), 0.5, 1.0)


def sample_ratio(experiments, seed=3):
    """Units arrive as they should, through a ramp of three revisions of the weights, and 60 looks."""
    random, alarms = np.random.default_rng(seed), 0
    for _ in range(experiments):
        state = None
        for weights in ((0.95, 0.05), (0.8, 0.2), (0.5, 0.5)):
            state = SampleRatio.start(weights) if state is None else state.reweight(weights)
            arrived = np.cumsum(random.multinomial(400, weights, size=20), axis=0).tolist()
            for counts in arrived:
                state = state.observe(counts)
        alarms += state.p_value < ALARM
    yield at_most("sample ratio: false alarms", alarms / experiments, ALARM, experiments)
    found = 0
    for _ in range(200):
        state = SampleRatio.start((0.5, 0.5))
        counts = np.cumsum(random.multinomial(500, (0.52, 0.48), size=40), axis=0)
        found += any((state := state.observe(each)).p_value < ALARM for each in counts.tolist())
    yield Figure("sample ratio: 52/48 seen within 20,000 units", found / 200, 0.8, 1.0)


def healthy_canary(rate, experiments, seed=4, times=1000, per_window=500):
    """The canary is as good as the baseline while its share goes from 1 to 50 %; 1,000 looks."""
    share = np.linspace(0.01, 0.5, times)
    random, rolled_back, alpha = np.random.default_rng(seed), 0, 0.01
    for start in range(0, experiments, 50):
        size = (min(50, experiments - start), times)
        canary = random.binomial(per_window, share, size=size)
        bad_canary = random.binomial(canary, rate)
        bad_baseline = random.binomial(per_window - canary, rate)
        rolled_back += (_evidence(canary, per_window - canary, bad_canary, bad_baseline) >= 1 / alpha).any(axis=1).sum()
    yield at_most(f"canary: false rollbacks at a rate of {rate}", rolled_back / experiments, alpha, experiments)


def _evidence(canary, baseline, bad_canary, bad_baseline):
    """Evidence of many canaries at all looks; the same sums as `ErrorRate`, which a test compares."""
    bets = np.zeros((*canary.shape, len(WORSE)))
    requests = np.maximum(canary, 1)[..., None].astype(float), np.maximum(baseline, 1)[..., None].astype(float)
    of_canary, of_baseline = stakes(*requests, np.array(WORSE))
    bets = np.cumsum(bad_canary[..., None] * of_canary + bad_baseline[..., None] * of_baseline, axis=1)
    return np.exp(np.minimum(bets, 600.0)).mean(axis=-1)


def sick_canary(factor, most, experiments, seed=5, times=1000, per_window=500):
    """The canary fails more often, on the same ramp: how many requests failed before the rollback, the median."""
    random, failed = np.random.default_rng(seed), []
    for _ in range(experiments):
        test, bad = ErrorRate.worse(), 0
        for share in np.linspace(0.01, 0.5, times):
            canary = int(random.binomial(per_window, share))
            bad_canary, bad_baseline = (
                int(random.binomial(requests, rate))
                for requests, rate in ((canary, 0.01 * factor), (per_window - canary, 0.01))
            )
            test = test.observe(
                canary=canary, baseline=per_window - canary, bad_canary=bad_canary, bad_baseline=bad_baseline
            )
            bad += bad_canary
            if test.rejects(0.01):
                break
        failed.append(bad)
    yield Figure(f"canary: median failed requests before rollback, x{factor:g}", float(np.median(failed)), 1, most)
