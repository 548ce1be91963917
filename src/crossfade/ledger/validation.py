"""What an outcome has to be to be recorded; a batch is taken whole or not at all."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import isfinite
from typing import TypeVar

import msgspec

from crossfade.errors import InvalidOutcomesError, TooManyOutcomesError
from crossfade.ledger.admission import is_slug, problem_of_outcome
from crossfade.ledger.events import Outcome
from crossfade.ledger.metrics import LARGEST, RESERVED
from crossfade.ledger.records import Outcomes, decode_record, encode_record
from crossfade.ledger.requests import ReportedOutcome
from crossfade.ledger.store import MAX_ID, MAX_NAME, MAX_UNIT, sound

Told = TypeVar("Told", Outcome, ReportedOutcome)
MAX_OUTCOMES = 10_000
"""In one batch."""
DAY_US = 86_400_000_000


def encode_outcomes(outcomes: Sequence[Outcome], now_us: int, oldest_days: int) -> bytes:
    """Check a batch, and return it as a record that has been read back.

    Args:
        outcomes: At most `MAX_OUTCOMES`.
        now_us: The present time; a day of it is granted to clocks that are ahead.
        oldest_days: Older ones are not taken: the database may no longer know whether it had them.

    Raises:
        TooManyOutcomesError: There are more.
        InvalidOutcomesError: One cannot be recorded; says which is the first, and why.

    Example:
        >>> encode_outcomes([Outcome("7", 0, "landed", float("nan"), decision="a")], 0, 400)
        Traceback (most recent call last):
        crossfade.errors.invalid.InvalidOutcomesError: outcome 0 of the batch cannot be recorded: its value is nan
        hint: nothing of the batch was recorded: send it again without that one, or with it corrected
    """
    if len(outcomes) > MAX_OUTCOMES:
        raise TooManyOutcomesError(count=len(outcomes), limit=MAX_OUTCOMES)
    batch = list(outcomes)
    earliest, latest = now_us - oldest_days * DAY_US, now_us + DAY_US
    try:
        payload = encode_record(Outcomes(batch))
        record = decode_record(payload)
    except (msgspec.MsgspecError, TypeError, ValueError, OverflowError):
        record = None
    if not isinstance(record, Outcomes):
        raise _first_unreadable(batch)
    for index, each in enumerate(record.events):  # what was read back has the types that it should
        if not (earliest <= each.at_us <= latest and sound(each) and _is_usable(each)):
            raise InvalidOutcomesError(index=index, problem=_problem(each, earliest, latest))
    if conflict := find_conflict(record.events):
        index, first = conflict
        problem = f"it has the id of outcome {first} and says something else, and an id is one outcome"
        raise InvalidOutcomesError(index=index, problem=problem)
    return payload


def find_conflict(outcomes: Sequence[Told]) -> tuple[int, int] | None:
    """Return the first outcome that has the id of an earlier one and says something else, and that one, by places.

    Only one of them could be kept. What is there twice word for word is one outcome.

    Example:
        >>> find_conflict([Outcome("7", 0, "bought", decision="a"), Outcome("7", 0, "spent", decision="a")])
        (1, 0)
    """
    places: dict[str, int] = {}
    for index, each in enumerate(outcomes):
        first = places.setdefault(each.id, index)
        if first != index and each != outcomes[first]:
            return index, first
    return None


def _first_unreadable(outcomes: Sequence[Outcome]) -> InvalidOutcomesError:
    for index, each in enumerate(outcomes):
        try:
            decode_record(encode_record(Outcomes([each])))
        except (msgspec.MsgspecError, TypeError, ValueError, OverflowError) as error:
            text = str(error).partition(" - at ")[0]
            return InvalidOutcomesError(index=index, problem=f"it cannot be written: {text}")
    return InvalidOutcomesError(index=0, problem="the batch cannot be written")


def _is_usable(each: Outcome) -> bool:
    """Tell whether roll-ups can use it: what they count as refused is said at once to whoever can still correct it."""
    fits = not problem_of_outcome(each.name, each.value, each.at_us)
    return fits and (not each.experiment or is_slug(each.experiment))


def _problem(each: Outcome, earliest: int, latest: int) -> str:
    """Say what is wrong with an outcome of which something is."""
    problems = (*_problems_of_texts(each), *_problems_of_value(each, earliest, latest), *_problems_of_names(each))
    return next(iter(problems), "it needs either `decision`, or `experiment` and `unit`")


def _problems_of_texts(each: Outcome) -> Iterator[str]:
    lengths = (
        ("id", each.id, 1, MAX_ID),
        ("name", each.name, 1, MAX_NAME),
        ("decision", each.decision, 0, MAX_ID),
        ("experiment", each.experiment, 0, MAX_NAME),
        ("unit", each.unit, 0, MAX_UNIT),
    )
    for field, text, least, most in lengths:
        if len(text) < least:
            yield f"its `{field}` is empty"
        if len(text) > most:
            yield f"its `{field}` has {len(text)} characters; there may be {most}"
        if not text.isprintable():
            yield f"its `{field}` has characters that cannot be shown"


def _problems_of_value(each: Outcome, earliest: int, latest: int) -> Iterator[str]:
    if not isfinite(each.value):
        yield f"its value is {each.value}"
    elif abs(each.value) > LARGEST:
        yield f"its value is {each.value}; sums are made of values up to {LARGEST:g}"
    if not earliest <= each.at_us <= latest:
        days = (latest - earliest) // DAY_US - 1
        when = f"more than {days} days ago" if each.at_us < earliest else "more than a day from now"
        yield f"its time is {when}, by the clock of this server"


def _problems_of_names(each: Outcome) -> Iterator[str]:
    if each.name in RESERVED:
        yield f"its name is `{each.name}`, which is measured while answering"
    if not is_slug(each.name):
        yield f"its name is `{each.name}`, which no metric could name: it needs small letters, digits, `_`, `.`, `-`"
    if each.experiment and not is_slug(each.experiment):
        yield f"there is no experiment or rollout `{each.experiment}`"
