"""Off-policy evaluation: what another policy would have earned, from the log of the one that ran.

```
Log (log.py): action, reward, propensity; cells or features of the context
Target (target.py): what the policy in question would do in each row
evaluate(log, target) -> PolicyReport                    evaluation.py, report.py
  importance = target / propensity: IPS, clipped IPS, SNIPS          estimators.py
  reward model, fitted without the rows that it predicts: DM, DR     reward_model.py, estimators.py
  refused where the log says nothing about the policy                support.py
```

Example:
    >>> import numpy as np
    >>> from crossfade.methods.off_policy.evaluation import evaluate
    >>> from crossfade.methods.off_policy.log import Log
    >>> from crossfade.methods.off_policy.target import Target
    >>> rewards = np.tile([0, 0, 0, 1, 0, 1], 100)
    >>> log = Log.of(["a", "b"] * 300, rewards, np.full(600, 0.5))
    >>> report = evaluate(log, Target.fixed(log, {"a": 0.1, "b": 0.9}))
    >>> round(report.value("snips").value, 3)
    0.6
"""
