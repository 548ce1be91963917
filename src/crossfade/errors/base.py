"""What every error has: a stable code, one sentence, one hint, and the facts that both are made of."""

from __future__ import annotations

from typing import ClassVar


class CrossfadeError(Exception):
    """Base of every deliberate error: a stable `code`, one clear sentence, one runnable hint.

    Args:
        **facts: The values that the `sentence` and `hint` templates of the class name. Extra facts are allowed and are
            reported in the problem body.
    """

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    sentence: ClassVar[str] = "{problem}"
    hint_template: ClassVar[str] = ""

    def __init__(self, **facts: object) -> None:
        self.facts = facts
        self.message = self.sentence.format_map(facts)
        self.hint = self.hint_template.format_map(facts)
        super().__init__(self.message)

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the facts when the error is copied to another process or thread."""
        return (_rebuild, (type(self), self.facts))


def _rebuild(kind: type[CrossfadeError], facts: dict[str, object]) -> CrossfadeError:
    return kind(**facts)
