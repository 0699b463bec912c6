"""Values that steps are declared with: durations, variables, secrets, files."""

from __future__ import annotations

import os
import re
from datetime import timedelta
from pathlib import Path
from typing import Dict, List, Optional, Union

from ._errors import PipelineError

Duration = Union[str, int, float, timedelta]

_UNITS = {
    "ms": 1,
    "s": 1000, "sec": 1000, "secs": 1000, "second": 1000, "seconds": 1000,
    "m": 60_000, "min": 60_000, "mins": 60_000, "minute": 60_000, "minutes": 60_000,
    "h": 3_600_000, "hr": 3_600_000, "hour": 3_600_000, "hours": 3_600_000,
    "d": 86_400_000, "day": 86_400_000, "days": 86_400_000,
    "w": 604_800_000, "week": 604_800_000, "weeks": 604_800_000,
}


def milliseconds(time: Duration) -> int:
    """A duration: ``"10m"``, ``"1h 30m"``, seconds, or a timedelta."""
    if isinstance(time, timedelta):
        number = time.total_seconds() * 1000
    elif isinstance(time, (int, float)) and not isinstance(time, bool):
        number = time * 1000
    elif isinstance(time, str):
        parts = re.findall(r"\s*(\d+)\s*([a-z]+)", time)
        if not parts or "".join(re.split(r"\s*\d+\s*[a-z]+", time)).strip():
            raise PipelineError(f"`{time}` is not a duration: numbers with units, such as `90s` or `1h 30m`")
        number = 0
        for amount, unit in parts:
            if unit not in _UNITS:
                raise PipelineError(f"`{time}` is not a duration: there is no unit `{unit}`")
            number += int(amount) * _UNITS[unit]
    else:
        raise PipelineError(f"a duration is a text, a number or a timedelta, not {type(time).__name__}")
    if number <= 0:
        raise PipelineError(f"`{time}` is not a duration: it has to be more than nothing")
    return int(number)


class Secret(str):
    """A reference to a secret, in the value of a variable. It can be put together with other texts by ``+``."""

    def __new__(cls, text: str) -> "Secret":
        return super().__new__(cls, text)

    def __add__(self, other: str) -> "Secret":
        return Secret(str(self) + escape(other))

    def __radd__(self, other: str) -> "Secret":
        return Secret(escape(other) + str(self))


def secret(name: str) -> Secret:
    """The value of a secret of the manifest, put in when a step runs. Its value is never in the pipeline."""
    if not re.fullmatch(r"[a-z][a-z0-9-]{0,62}", name):
        raise PipelineError(f"`{name}` cannot be the name of a secret: a lower-case letter, then letters, digits and `-`")
    return Secret("${secret." + name + "}")


def escape(value: str) -> str:
    """A text as it is, whatever stands in it."""
    return value if isinstance(value, Secret) else value.replace("${", "$${")


class Asked:
    """What an evaluation asked for of its surroundings: on that its result depends."""

    def __init__(self) -> None:
        self.given: Optional[Dict[str, str]] = None
        self.root = Path.cwd()
        self.variables: Dict[str, Optional[str]] = {}
        self.missing: List[str] = []
        self.reads: List[str] = []
        self.predicates = False

    def variable(self, name: str) -> Optional[str]:
        if self.given is None:
            value = os.environ.get(name)
        elif name in self.given:
            value = self.given[name]
        else:
            value = None
            if name not in self.missing:
                self.missing.append(name)
        self.variables[name] = value
        return value


asked = Asked()


def env(name: str, default: Optional[str] = None) -> Optional[str]:
    """A variable of whoever runs the pipeline. The pipeline is evaluated anew when it changes."""
    if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
        raise PipelineError(f"`{name}` cannot be the name of a variable")
    value = asked.variable(name)
    return default if value is None else value


def read(path: str) -> str:
    """A file of the project, as text. The pipeline is evaluated anew when it changes."""
    full = (asked.root / path).resolve()
    asked.reads.append(str(full))
    return full.read_text(encoding="utf-8")


