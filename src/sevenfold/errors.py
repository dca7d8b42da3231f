"""Every error the library raises on purpose.

SevenfoldError
├── SpecError           the declaration is wrong; carries every problem at once
├── InputError          rows, keys or fields from outside are wrong
├── TimeError           an instant or a duration is not usable
├── LeakageError        a feature or a score knows what it cannot know yet
├── StoreError          what was read back is not what was written
│   └── StoreFullError  there is no room for what is to be written
├── ArtifactError       a model file is damaged, forged or of another kind
├── RegistryError       a version or an alias cannot be had
├── GateError           a challenger may not be promoted
├── NotFoundError       a name that nothing declares
├── ServingError        a request that cannot be answered
└── RunError            a run that cannot start or go on
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = [
    "ArtifactError",
    "GateError",
    "InputError",
    "LeakageError",
    "NotFoundError",
    "Problem",
    "RegistryError",
    "RunError",
    "ServingError",
    "SevenfoldError",
    "SpecError",
    "StoreError",
    "StoreFullError",
    "TimeError",
]


class SevenfoldError(Exception):
    """The root of every error that Sevenfold raises on purpose."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a declaration.

    `path` says where (`$.features[3].window`), `severity` is `error`, `warning` or `info`, and `check`
    names the rule that found it (`C-00` ... `C-30`).
    """

    path: str
    message: str
    remedy: str = ""
    check: str = "C-00"
    severity: str = "error"

    def __str__(self) -> str:
        """The problem as one line: where, what, and what to do."""
        remedy = f" Remedy: {self.remedy}" if self.remedy else ""
        return f"{self.path}: {self.message}{remedy} [{self.check}]"


class SpecError(SevenfoldError):
    """A declaration that is refused, with every problem at once in `problems`."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  {problem}" for problem in self.problems)
        count = len(self.problems)
        super().__init__(f"{count} problem{'s' if count != 1 else ''} in the declaration:\n{lines}")


class InputError(SevenfoldError):
    """Rows, keys or fields from outside that cannot be used."""


class TimeError(SevenfoldError):
    """An instant or a duration that cannot be used."""


class LeakageError(SevenfoldError):
    """A feature or a score that knows what could not be known yet."""


class StoreError(SevenfoldError):
    """A store that cannot be opened, or whose bytes are not what was written."""


class StoreFullError(StoreError):
    """A store that has no room for what is to be written: nothing of it is, and what was written before stands."""


class ArtifactError(SevenfoldError):
    """A model file that is damaged, forged or of another kind."""


class RegistryError(SevenfoldError):
    """A model version or an alias that cannot be had."""


class GateError(SevenfoldError):
    """A challenger that may not be promoted."""


class NotFoundError(SevenfoldError):
    """A feature, entity, stream, model or system that nothing declares."""


class ServingError(SevenfoldError):
    """A request that cannot be answered as asked."""


class RunError(SevenfoldError):
    """A run that cannot start or cannot go on."""
