"""When an earlier result of a step may be taken."""

from __future__ import annotations

import sys
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from ._errors import PipelineError, kind
from ._values import Duration, env, milliseconds, sound, text, texts, variable

Value = Union[bytes, str, int]


class OptionalInput:
    """A pattern of files that may fit nothing."""

    def __init__(self, glob: str) -> None:
        self.glob = glob


Input = Union[str, OptionalInput]
Inputs = Union[Input, Sequence[Input]]


def optional(glob: str) -> OptionalInput:
    """A pattern for ``inputs`` that may fit nothing."""
    return OptionalInput(text("optional", glob))


def inputs(key: str, value: object) -> List[Input]:
    """The patterns: one, or a list or tuple of them."""
    items = [value] if isinstance(value, (str, OptionalInput)) else value
    if not isinstance(items, (list, tuple)):
        raise PipelineError(f"`{key}` is {kind(value)}", "give patterns: a str, sp.optional(...), or a list")
    return [item if isinstance(item, OptionalInput) else text(key, item) for item in items]


class _Never:
    pass


class _Forever:
    def __init__(self, env_keys: Sequence[str]) -> None:
        self.env_keys = env_keys


class _Ttl:
    def __init__(self, ms: int) -> None:
        self.ms = ms


class _OnChange:
    def __init__(self, patterns: List[Input]) -> None:
        self.patterns = patterns


class _Predicate:
    def __init__(self, function: Callable[[], Value]) -> None:
        self.function = function


_Part = Union[_Never, _Forever, _Ttl, _OnChange, _Predicate]


class Policy:
    """One or several rules about when an earlier result may be taken."""

    def __init__(self, parts: Tuple[_Part, ...]) -> None:
        if len(parts) > 1 and any(isinstance(part, _Never) for part in parts):
            raise PipelineError("`none` goes with no other policy", "keep sp.none(), or the others")
        self.parts = parts

    def inputs(self) -> Optional[List[Input]]:
        """The inputs that the policy declares, if it does."""
        found = [part.patterns for part in self.parts if isinstance(part, _OnChange)]
        return [pattern for patterns in found for pattern in patterns] if found else None

    def emit(self, step: str, given: Dict[int, Any]) -> List[Any]:
        """The policies in the form that pipelines have. ``given`` keeps what predicates gave."""
        return [_emit(part, step, given) for part in self.parts if not isinstance(part, _OnChange)]


def none() -> Policy:
    """Never: the step runs every time."""
    return Policy((_Never(),))


def forever(*, env_keys: Union[str, Sequence[str]] = ()) -> Policy:
    """For as long as the result is there, and these variables of the caller are the same."""
    return Policy((_Forever([variable("env_keys", key) for key in texts("env_keys", env_keys)]),))


def ttl(duration: Duration) -> Policy:
    """For so long after the result was made."""
    return Policy((_Ttl(milliseconds("ttl", duration)),))


def on_change(*patterns: Input) -> Policy:
    """As long as these files are the same. They become the step's inputs."""
    if not patterns:
        raise PipelineError("`on_change` names no files", "give it patterns of files")
    return Policy((_OnChange(inputs("on_change", patterns)),))


def predicate(function: Callable[[], Value]) -> Policy:
    """As long as what the function gives (bytes, str or int) is the same. It is called in each evaluation."""
    if not callable(function):
        raise PipelineError(f"`predicate` got {kind(function)}", "give it a function without parameters")
    return Policy((_Predicate(function),))


def compose(*policies: Policy) -> Policy:
    """All of these policies together."""
    if not policies:
        raise PipelineError("`compose` got no policy", "give it policies, or leave `cache` out")
    for policy in policies:
        if not isinstance(policy, Policy):
            raise PipelineError(f"`compose` got {kind(policy)}", "give it policies: sp.ttl(...), sp.forever()")
    return Policy(tuple(part for policy in policies for part in policy.parts))


def _emit(part: _Part, step: str, given: Dict[int, Any]) -> Any:
    if isinstance(part, _Forever):
        values = {key: env(key) for key in sorted(set(part.env_keys))}
        for key, value in values.items():
            sound(f"env_keys.{key}", value or "")
        return {"forever": {"env": values} if values else {}}
    if isinstance(part, _Ttl):
        return {"ttl": {"ms": part.ms}}
    if isinstance(part, _Predicate):
        if id(part) not in given:
            given[id(part)] = _ask(part, step)
        return {"predicate": given[id(part)]}
    return "none"


def _ask(part: _Predicate, step: str) -> Dict[str, str]:
    try:
        value = part.function()
    except Exception as error:
        what = f"its predicate failed: {type(error).__name__}: {error}"
        raise PipelineError(what, "correct the function, or catch what it raises", step=step) from error
    if isinstance(value, str):
        return {"str": sound("predicate", value)}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, int) and not isinstance(value, bool):
        return {"int": _digits(value)}
    raise PipelineError(f"its predicate gave {kind(value)}", "return bytes, a str or an int", step=step)


def _digits(value: int) -> str:
    """The decimal digits of a number, however many."""
    try:
        return str(int(value))
    except ValueError:
        limit = sys.get_int_max_str_digits()
        sys.set_int_max_str_digits(0)
        try:
            return str(int(value))
        finally:
            sys.set_int_max_str_digits(limit)
