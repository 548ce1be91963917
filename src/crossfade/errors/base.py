"""What every error has: a stable code, one sentence, one hint, and the facts that both are made of."""

from __future__ import annotations

from typing import ClassVar


class CrossfadeError(Exception):
    """Base of every deliberate error: a stable `code`, one clear sentence, one runnable hint.

    Args:
        **facts: The values that the `sentence` and `hint` templates of the class name. Extra facts are allowed and are
            reported in the problem body. Text that is no Unicode is made readable, so that every error can be told.
    """

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500
    exit_code: ClassVar[int] = 1
    sentence: ClassVar[str] = "{problem}"
    hint_template: ClassVar[str] = ""

    def __init__(self, **facts: object) -> None:
        self.facts = facts = {name: _unicode(value) for name, value in facts.items()}
        self.message = self.sentence.format_map(facts)
        self.hint = self.hint_template.format_map(facts)
        super().__init__(self.message)
        if self.hint:
            self.add_note(f"hint: {self.hint}")  # tracebacks show it, too

    def __reduce__(self) -> tuple[object, ...]:
        """Keep the facts when the error is copied to another process or thread."""
        return (_rebuild, (type(self), self.facts))


def _unicode(value: object) -> object:
    """Replace halves of surrogate pairs, which JSON can spell and nobody can send."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) and not value.isascii() else value


def _rebuild(kind: type[CrossfadeError], facts: dict[str, object]) -> CrossfadeError:
    return kind(**facts)
