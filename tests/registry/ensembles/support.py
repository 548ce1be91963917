"""Members whose behaviour is decided by the test, not by bytes."""

from __future__ import annotations

import threading

import numpy as np

from crossfade.core.tensors import Signature, TensorSpec
from crossfade.registry.ensembles.document import EnsembleSpec, Member
from crossfade.registry.ensembles.running import Ensemble
from crossfade.registry.pipeline import Pipeline

X = TensorSpec("x", "FP64", (-1,))
NUMBER = TensorSpec("predict", "FP64", (-1,))
REGRESSOR = Signature((X,), (NUMBER,))
CLASSES = ("maybe", "no", "yes")
CLASSIFIER = Signature(
    (X,), (TensorSpec("predict", "BYTES", (-1,)), TensorSpec("predict_proba", "FP64", (-1, 3))), classes=CLASSES
)


class Scripted:
    """Answers what a function says: `answer(x)` is the one output, or a dict of outputs."""

    inputs = outputs = columns = classes = ()
    matrix = False

    def __init__(self, answer, gate=None):
        self.answer = answer
        self.gate = gate
        self.calls = 0
        self.threads = set()

    def predict(self, inputs, wanted):
        self.calls += 1
        self.threads.add(threading.current_thread().name)
        if self.gate is not None:
            self.gate.wait(20)
        found = self.answer(*inputs.values())
        return found if isinstance(found, dict) else {"predict": found}


def times(factor):
    """A member that multiplies."""
    return Scripted(lambda x: x * factor)


def raising(x):
    raise RuntimeError("out of order")


def refusing(bad):
    """A member that fails when one of its rows is among `bad`, and else answers the row itself."""

    def answer(x):
        if set(x.tolist()) & set(bad):
            raise ValueError("a row that I do not like")
        return x

    return Scripted(answer)


def classifier(*chances):
    """A member with one answer for every row."""

    def answer(x):
        rows = np.tile(np.array(chances), (len(x), 1))
        return {"predict": np.array(CLASSES, object)[rows.argmax(axis=1)], "predict_proba": rows}

    return Scripted(answer)


def ensemble(method, models, *, signature=REGRESSOR, stacker="", warm=True, **spares):
    """Return an ensemble of (Member, Scripted) pairs; `spares` are further versions by name.

    Unless it shall be cold, its first call is behind it, so that budgets hold.
    """
    loaded = {member.ref: model for member, model in models} | {f"{name}:1.0.0": m for name, m in spares.items()}
    pipelines = {ref: Pipeline(signature, model, ref=ref) for ref, model in loaded.items()}
    spec = EnsembleSpec(method, tuple(member for member, _ in models), stacker)
    spec.check()
    made = Ensemble(spec, pipelines)
    made._warm = warm
    return made


def asked(made, *rows, wanted=("predict",)):
    """Return the answer to rows of one number."""
    return made.predict({"x": np.array(rows, dtype=float)}, frozenset(wanted))


def predicted(made, *rows):
    return asked(made, *rows)["predict"].tolist()


def m(ref, **options):
    return Member(f"{ref}:1.0.0", **options)
