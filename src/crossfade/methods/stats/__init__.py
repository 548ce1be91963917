"""Statistics of experiments and releases, from mergeable moments to decisions that survive looking every day.

The parts fit together like this:

```
observations -> Moments (moments.py) -> Estimate of one variant (gradient.py, cuped.py, proportions.py, quantiles.py)
             -> Contrast of two variants (contrast.py: absolute, relative, log)
             -> Effect (welch.py, confidence_sequence.py, group_sequential.py) or Posterior (bayesian.py)
```

Whatever cannot be estimated from what there is comes out as `NotEstimable` with the reason, never as a zero.

Example:
    >>> from crossfade.methods.stats.contrast import contrast
    >>> from crossfade.methods.stats.gradient import Mean, estimate
    >>> from crossfade.methods.stats.moments import Moments
    >>> from crossfade.methods.stats.welch import welch
    >>> control = estimate(Moments.of([1.0, 2.0, 3.0, 4.0]), Mean())
    >>> treatment = estimate(Moments.of([3.0, 4.0, 5.0, 6.0]), Mean())
    >>> round(welch(contrast(control, treatment)).p_value, 4)
    0.071
"""
