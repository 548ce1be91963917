"""Bandits: traffic follows what is earned. Learning happens beside requests, which weights or a function serve.

```
PolicySpec (one file for each kind) -> Policy (policy.py): variants and evidence, JSON between restarts
Outcomes, matured rewards -> Policy.learn -> Policy         pure: nothing is changed in place
ContextFreePolicy.weights()                                 one weight for each variant, for the allocation engine
ContextualPolicy.scorer()(context)                          a probability for each variant, in microseconds
probabilities + a hash of the decision (draw.py)            the variant; its probability is the propensity in the log
```

Nothing here draws at random: the same policy gives the same probabilities, and the same decision the same variant, in
every process and at any time later.

Example:
    >>> from datetime import UTC, datetime
    >>> import numpy as np
    >>> from crossfade.methods.bandits.beta_thompson import BetaThompson
    >>> from crossfade.methods.bandits.outcomes import Outcomes
    >>> from crossfade.methods.bandits.policy import start
    >>> now = datetime(2026, 1, 1, tzinfo=UTC)
    >>> policy = start(BetaThompson(half_life_seconds=7 * 86_400), ["control", "treatment"], now)
    >>> week = Outcomes(["control"] * 50 + ["treatment"] * 50, np.repeat([0, 1, 0, 1], [45, 5, 38, 12]), np.zeros(100))
    >>> policy = policy.learn(week, now)
"""
