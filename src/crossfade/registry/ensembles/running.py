"""`Ensemble`: a loaded ensemble, which runs like any other model."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from copy import copy
from typing import cast

import numpy as np

from crossfade.core.tensors import DTYPES, Array, Label, Signature, Tensors, TensorSpec, row_count
from crossfade.errors import CrossfadeError
from crossfade.registry.ensembles import combining
from crossfade.registry.ensembles.agreement import agree, constant_answer, is_binary, used_outputs
from crossfade.registry.ensembles.asking import Answer, Question, Voice, ask_together
from crossfade.registry.ensembles.document import EnsembleSpec, Member
from crossfade.registry.flavors.answers import LABELS, PROBABILITIES
from crossfade.registry.pipeline import Pipeline


class Ensemble:
    """Asks its members at the same time (`first`: one after the other) and combines what they say. A `Runnable`.

    The first call waits for everybody without limit and asks the substitutes too, because libraries warm up then; a
    serving process makes that call with the golden requests, before the version is ready.

    Args:
        spec: With pinned references.
        pipelines: Pinned reference -> loaded version, for everything that the specification names.

    Attributes:
        voices: Pinned reference -> everybody who is asked; not the stacker.
        needed: Those without whom nothing can be answered.
        member_rows: (member, outcome) -> rows of the last call that it `answered`, that were answered without it
            (`dropped`), with what stands in for it (`substituted`), or by the next one of a chain (`passed`).

    Raises:
        InvalidEnsembleError: They do not fit.
    """

    columns: tuple[str, ...] = ()
    matrix = False

    def __init__(self, spec: EnsembleSpec, pipelines: Mapping[str, Pipeline]) -> None:
        self._signatures = {ref: pipeline.signature for ref, pipeline in pipelines.items()}
        signature = agree(spec, self._signatures)
        self.inputs: tuple[TensorSpec, ...] = signature.inputs
        self.outputs: tuple[TensorSpec, ...] = signature.outputs
        self.classes: tuple[Label, ...] = signature.classes
        self._spec = spec
        self._stacker = pipelines.get(spec.stacker)
        self.voices = {ref: Voice(pipelines[ref]) for ref in spec.refs() if ref != spec.stacker}
        self._used = {ref: used_outputs(spec.method, ref, self._signatures[ref]) for ref in self.voices}
        self._budgets = _budgets(spec)
        self._strict = {member.ref for member in spec.members if member.on_failure == "fail" and spec.method != "first"}
        self._constants = {
            member.ref: constant_answer(spec.method, member, self._signatures[member.ref])
            for member in spec.members
            if member.constant is not None
        }
        self._weights = np.array([member.weight for member in spec.members])
        self._labels = _labels(signature) if spec.method == "soft_vote" else np.empty(0)
        self.needed = frozenset(self._strict | {spec.stacker} - {""})
        self.member_rows: Counter[tuple[str, str]] = Counter()
        self._warm = False

    def predict(self, inputs: object, wanted: frozenset[str]) -> Tensors:
        """Return the wanted outputs.

        Raises:
            PredictionError: A member failed that must not, or none is left for a row.
            MemberSlowError: A member was too slow that must not be.
        """
        tensors: Tensors = inputs if isinstance(inputs, dict) else {}
        self.member_rows = Counter()
        asked: set[str] = set()
        try:
            if self._spec.method == "first":
                return self._first(tensors, wanted, asked)
            return self._combined(self._settled(tensors, wanted, asked), wanted)
        finally:
            if not self._warm:
                self._warm = True
                for ref in self.voices.keys() - asked:
                    self.voices[ref].ask(self._question(ref, tensors, wanted))

    def _question(self, ref: str, inputs: Tensors, wanted: frozenset[str]) -> Question:
        names = frozenset(spec.name for spec in self._used[ref])
        if self._spec.method in {"average", "first"}:
            names &= wanted
        return Question(inputs, names, ref not in self._strict, self._budgets[ref] if self._warm else None)

    # --- all at once ---

    def _settled(self, inputs: Tensors, wanted: frozenset[str], asked: set[str]) -> list[Answer]:
        """Ask everybody, and do for each member that did not answer what its policy says."""
        members = self._spec.members
        answers = self._ask([member.ref for member in members], inputs, wanted, asked)
        silent = [member for member in members if answers[member.ref].error is not None]
        spares = dict.fromkeys(member.substitute for member in silent if member.substitute not in {"", *answers})
        answers |= self._ask(spares, inputs, wanted, asked)
        return [self._policed(member, answers) for member in members]

    def _ask(self, refs: Iterable[str], inputs: Tensors, wanted: frozenset[str], asked: set[str]) -> dict[str, Answer]:
        asked.update(refs)
        return ask_together(self.voices, {ref: self._question(ref, inputs, wanted) for ref in refs})

    def _policed(self, member: Member, answers: Mapping[str, Answer]) -> Answer:
        answer = answers[member.ref]
        self._count(member, answer, "dropped" if member.on_failure == "drop" else "substituted")
        if answer.error is None or member.on_failure == "drop":
            return answer
        if member.on_failure == "fail":
            raise copy(answer.error)  # raised itself, it would refer to itself through this frame
        if not member.substitute:
            return _patched(answer, self._constant(member, answer))
        spare = answers[member.substitute]
        if spare.error is not None and not (answer.good | spare.good).all():
            raise copy(spare.error)
        return _patched(answer, spare)

    def _count(self, member: Member, answer: Answer, otherwise: str) -> None:
        """Note which rows a member answered, and what became of the others."""
        good = int(answer.good.sum())
        self.member_rows[member.ref, "answered"] += good
        if good < len(answer.good):
            self.member_rows[member.ref, otherwise] += len(answer.good) - good

    def _constant(self, member: Member, answer: Answer) -> Answer:
        rows = len(answer.good)
        values = self._constants[member.ref]
        outputs = {name: np.broadcast_to(value, (rows, *value.shape)) for name, value in values.items()}
        return Answer(outputs, np.ones(rows, bool))

    def _combined(self, answers: list[Answer], wanted: frozenset[str]) -> Tensors:
        there = [position for position, answer in enumerate(answers) if answer.outputs]
        good = np.array([answers[position].good for position in there])
        if not there or not good.any(axis=0).all():
            raise copy(next(answer.error for answer in answers if answer.error is not None))
        if self._stacker is not None:
            return self._stacked(self._stacker, answers, wanted)
        weights = self._weights[there]

        def said(name: str) -> list[Array]:
            return [answers[position].outputs[name] for position in there]

        if self._spec.method == "hard_vote":
            return {LABELS: combining.vote(said(LABELS), weights, good)}
        if self._spec.method == "average":
            return {
                spec.name: combining.average(said(spec.name), weights, good).astype(DTYPES[spec.datatype])
                for spec in self.outputs
                if spec.name in wanted
            }
        chances = combining.average(said(PROBABILITIES), weights, good)
        datatype = next(spec.datatype for spec in self.outputs if spec.name == PROBABILITIES)
        return {
            LABELS: self._labels[np.argmax(chances, axis=1)],
            PROBABILITIES: chances.astype(DTYPES[datatype]),
        }

    def _stacked(self, stacker: Pipeline, answers: list[Answer], wanted: frozenset[str]) -> Tensors:
        columns = []
        for member, answer in zip(self._spec.members, answers, strict=True):
            used = self._used[member.ref]
            given = [answer.outputs[spec.name] for spec in used]
            columns.append(combining.features(given, binary=is_binary(self._signatures[member.ref], used)))
        matrix = np.concatenate(columns, axis=1)
        specs = stacker.signature.inputs
        if len(specs[0].shape) == 2:
            return stacker.predict({specs[0].name: matrix.astype(DTYPES[specs[0].datatype])}, wanted)
        split = {spec.name: matrix[:, place].astype(DTYPES[spec.datatype]) for place, spec in enumerate(specs)}
        return stacker.predict(split, wanted)

    # --- one after the other ---

    def _first(self, inputs: Tensors, wanted: frozenset[str], asked: set[str]) -> Tensors:
        """Ask the next member for the rows that those before it did not answer."""
        found = Answer({}, np.zeros(row_count(inputs), bool))
        for member in self._spec.members:
            left = ~found.good
            asked.add(member.ref)
            question = self._question(member.ref, {name: value[left] for name, value in inputs.items()}, wanted)
            answer = ask_together(self.voices, {member.ref: question})[member.ref]
            last = member is self._spec.members[-1]
            self._count(member, answer, "substituted" if last else "passed")
            found = _patched(found, _spread(answer, left))
            if answer.error is None:
                return found.outputs
        if member.constant is None:
            raise copy(cast("CrossfadeError", answer.error))
        constant = self._constant(member, found).outputs
        everywhere = Answer({name: constant[name] for name in wanted}, ~np.zeros_like(found.good))
        return _patched(found, everywhere).outputs


def _budgets(spec: EnsembleSpec) -> dict[str, float | None]:
    """Return how long each version is waited for; a substitute has the least of those that it stands in for."""
    budgets = {member.ref: member.budget_seconds for member in spec.members}
    for spare in {member.substitute for member in spec.members if member.substitute} - budgets.keys():
        given = [m.budget_seconds for m in spec.members if m.substitute == spare and m.budget_seconds is not None]
        budgets[spare] = min(given, default=None)
    return budgets


def _labels(signature: Signature) -> Array:
    labels = np.empty(len(signature.classes), dtype=DTYPES[signature.output(LABELS).datatype])
    labels[:] = signature.classes
    return labels


def _patched(answer: Answer, spare: Answer) -> Answer:
    """Return an answer whose missing rows are taken from another one."""
    if not answer.good.any():
        return spare
    missing = ~answer.good & spare.good
    if not missing.any():
        return answer
    outputs: Tensors = {}
    for name, value in answer.outputs.items():
        where = missing.reshape(-1, *(1,) * (value.ndim - 1))
        outputs[name] = np.where(where, spare.outputs[name], value)  # in a type that holds both
    return Answer(outputs, answer.good | spare.good)


def _spread(answer: Answer, rows: Array) -> Answer:
    """Return an answer to some rows as one to all rows."""
    if rows.all():
        return answer
    outputs: Tensors = {}
    for name, value in answer.outputs.items():
        outputs[name] = np.zeros((len(rows), *value.shape[1:]), value.dtype)
        outputs[name][rows] = value
    good = np.zeros(len(rows), bool)
    good[rows] = answer.good
    return Answer(outputs, good, answer.error)
