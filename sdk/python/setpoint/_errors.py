"""What is said when a pipeline is wrong, and where it was written."""

from __future__ import annotations

import difflib
import os
import sys
from typing import Iterable, Optional

PACKAGE = os.path.dirname(os.path.abspath(__file__))


class PipelineError(Exception):
    """A mistake in a pipeline: what is wrong, and what to do.

    ``what`` says what is wrong, ``hint`` what to do, ``step`` in which step, if it is in one.
    """

    def __init__(self, what: str, hint: str, *, step: Optional[str] = None) -> None:
        super().__init__(what, hint)
        self.what = what
        self.hint = hint
        self.step = step

    def __str__(self) -> str:
        where = "" if self.step is None else f"step `{self.step}`: "
        return f"{where}{self.what}; {self.hint}"


def did_you_mean(name: str, known: Iterable[str], otherwise: str) -> str:
    """The hint for an unknown name: the nearest known one, or ``otherwise``."""
    near = difflib.get_close_matches(name, sorted(known), n=1)
    return f"did you mean `{near[0]}`?" if near else otherwise


def kind(value: object) -> str:
    """What kind of value this is, for a message."""
    return "None" if value is None else f"a value of type {type(value).__name__}"


def is_own(path: str) -> bool:
    """Whether a source file belongs to this package."""
    return os.path.dirname(os.path.abspath(path)) == PACKAGE


def place() -> str:
    """The file and line that called into this package."""
    frame = sys._getframe(1)
    while frame.f_back is not None and is_own(frame.f_code.co_filename):
        frame = frame.f_back
    return f"{frame.f_code.co_filename}:{frame.f_lineno}"
