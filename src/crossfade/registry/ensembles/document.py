"""What an ensemble is made of: the specification that people write, and the document that a version keeps of it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Literal

import msgspec

from crossfade.core.decoding import problem_of
from crossfade.core.hashing import canonical_json, is_digest
from crossfade.errors import InvalidEnsembleError

Method = Literal["average", "soft_vote", "hard_vote", "stack", "first"]
OnFailure = Literal["fail", "drop", "substitute"]

FLAVOR = "ensemble"
DOCUMENT_PATH = "ensemble.json"
DOCUMENT_FORMAT = 1

MAX_MEMBERS = 16
"""Each has a thread of its own."""
MAX_DEPTH = 2
"""An ensemble may have ensembles as members, and these may not."""
MIN_WEIGHT, MAX_WEIGHT = 1e-9, 1e9
"""Within these, no sum or product of weights overflows or vanishes."""
MIN_BUDGET, MAX_BUDGET = 0.001, 600.0
MAX_CONSTANT_BYTES = 2**16

_WEIGHTED = frozenset({"average", "soft_vote", "hard_vote"})


class Member(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """One member of an ensemble, and what happens when it does not answer.

    Args:
        ref: Which version; any spelling when it is asked for, `name:1.0.0` once it is pinned.
        weight: How much it counts, relative to the others; positive. Weights need not sum to anything.
        budget_seconds: How long an answer waits for it, 0.001 to 600; None means as long as it takes.
        on_failure: What happens when it fails, is slow, or answers NaN, infinity or nothing: the ensemble fails, does
            without it, or takes the substitute.
        substitute: Another version whose answer is taken, which may be a member too; any spelling.
        constant: A value that is taken: for a row, as JSON. With several outputs, a value for each by name.
    """

    ref: str
    weight: float = 1.0
    budget_seconds: float | None = None
    on_failure: OnFailure = "fail"
    substitute: str = ""
    constant: Any = None


class EnsembleSpec(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """An ensemble as people ask for it.

    Args:
        method: `average` of numbers; `soft_vote` and `hard_vote` of classifiers; `stack`: a model on the members'
            answers; `first`: the first member, in their order, that answers.
        members: In an order that matters for `stack` and `first`.
        stacker: For `stack`: the version that is asked last.

    Example:
        >>> EnsembleSpec("average", (Member("price:1.0.0", weight=2), Member("price@challenger"))).check()
    """

    method: Method
    members: tuple[Member, ...]
    stacker: str = ""

    def refs(self) -> tuple[str, ...]:
        """Return the references of all versions that take part, each once: members, substitutes, the stacker."""
        spares = [member.substitute for member in self.members if member.substitute]
        return tuple(dict.fromkeys([*(member.ref for member in self.members), *spares, *filter(None, [self.stacker])]))

    def check(self) -> None:
        """Check what can be checked without knowing the members.

        Raises:
            InvalidEnsembleError: The first thing that is wrong.
        """
        try:
            msgspec.convert(msgspec.to_builtins(self), EnsembleSpec)  # what was written in Python was never decoded
        except (msgspec.ValidationError, TypeError, RecursionError) as error:
            raise InvalidEnsembleError(problem=f"it is no specification ({problem_of(error, EnsembleSpec)})") from error
        for problem in (*_problems_of_spec(self), *(p for member in self.members for p in _problems_of_member(member))):
            raise InvalidEnsembleError(problem=problem)


class Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A version inside an ensemble; its files are under `members/<position>/`, its manifest among them.

    Args:
        ref: `name:1.0.0`.
        digest: Of its manifest, so its identity.
    """

    ref: str
    digest: str


class EnsembleDocument(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True):
    """`ensemble.json`: a specification whose references are pinned, and the versions that they mean."""

    spec: EnsembleSpec
    parts: tuple[Part, ...]
    format: int = DOCUMENT_FORMAT

    def encode(self) -> bytes:
        """Return canonical JSON: equal documents give equal bytes. Weights keep their exact value."""
        return canonical_json(self)

    @classmethod
    def decode(cls, data: bytes) -> EnsembleDocument:
        """Parse and check what `encode` returned.

        Raises:
            InvalidEnsembleError: It is something else.
        """
        try:
            document = msgspec.json.decode(data, type=cls)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise InvalidEnsembleError(
                problem=f"`{DOCUMENT_PATH}` cannot be read ({problem_of(error, cls)})"
            ) from error
        if document.format != DOCUMENT_FORMAT:
            raise InvalidEnsembleError(problem=f"format {document.format} is not {DOCUMENT_FORMAT}")
        document.spec.check()
        if tuple(part.ref for part in document.parts) != document.spec.refs():
            raise InvalidEnsembleError(problem="its parts are not the versions that it names")
        for part in document.parts:
            if not is_digest(part.digest):
                raise InvalidEnsembleError(problem=f"`{part.ref[:80]}` has no digest")
        return document


def folder(position: int) -> str:
    """Return where the files of a part are."""
    return f"members/{position}/"


def is_nested(paths: Iterator[str]) -> bool:
    """Tell from the file paths of a version whether it is an ensemble that has ensembles as members."""
    return any(path.startswith("members/") and path.endswith(f"/{DOCUMENT_PATH}") for path in paths)


def _problems_of_spec(spec: EnsembleSpec) -> Iterator[str]:
    refs = [member.ref for member in spec.members]
    if not refs or len(refs) > MAX_MEMBERS:
        yield f"it has {len(refs)} members, and 1 to {MAX_MEMBERS} are possible"
    if twice := next((ref for ref in refs if refs.count(ref) > 1), None):
        yield f"`{twice[:80]}` is a member twice; give it a larger weight instead"
    if (spec.method == "stack") != bool(spec.stacker):
        yield "`stack` needs a stacker, and no other method has one"
    if spec.method not in _WEIGHTED and any(member.weight != 1.0 for member in spec.members):
        yield f"weights mean nothing to `{spec.method}`"
    if spec.method == "stack" and any(member.on_failure == "drop" for member in spec.members):
        yield "a stacker needs the answers of all members; substitute one instead of dropping it"
    if spec.method == "first":
        if any(member.on_failure != "fail" for member in spec.members[:-1]):
            yield (
                "where the first that answers counts, a failure leads to the next member, so none but the last has a "
                "policy"
            )
        if spec.members and (spec.members[-1].on_failure == "drop" or spec.members[-1].substitute):
            yield "after the last member there is only a constant; add other versions as members"


def _problems_of_member(member: Member) -> Iterator[str]:
    name = f"member `{member.ref[:80]}`"
    if not MIN_WEIGHT <= member.weight <= MAX_WEIGHT:  # which NaN is not either
        yield f"{name} has the weight {member.weight}, and {MIN_WEIGHT:g} to {MAX_WEIGHT:g} is possible"
    budget = member.budget_seconds
    if budget is not None and not MIN_BUDGET <= budget <= MAX_BUDGET:
        yield f"{name} has a budget of {budget} seconds, and {MIN_BUDGET:g} to {MAX_BUDGET:g} is possible"
    given = bool(member.substitute) + (member.constant is not None)
    if given != (member.on_failure == "substitute"):
        yield f"{name} needs either a substitute or a constant for `substitute`, and neither for anything else"
    if member.substitute and member.substitute == member.ref:
        yield f"{name} cannot stand in for itself"
    if problem := _problem_of_constant(member.constant):
        yield f"{name} {problem}"


def _problem_of_constant(constant: Any) -> str:
    try:
        if len(canonical_json(constant)) > MAX_CONSTANT_BYTES:
            return f"has a constant of more than {MAX_CONSTANT_BYTES} bytes"
    except (TypeError, RecursionError):
        return "has a constant that is no JSON"
    return "" if _is_finite(constant) else "has a constant that is not finite"


def _is_finite(value: Any) -> bool:
    if isinstance(value, dict):
        return all(map(_is_finite, value.values()))
    if isinstance(value, (list, tuple)):
        return all(map(_is_finite, value))
    return not isinstance(value, float) or math.isfinite(value)
