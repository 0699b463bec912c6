"""When an earlier result of a step may be taken."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple, Union

from ._errors import PipelineError
from ._values import Duration, env, milliseconds

Predicate = Callable[[], Union[str, int, bytes]]


@dataclass(frozen=True)
class Policy:
    """A rule about when an earlier result may be taken; made by the functions below."""

    kind: str
    env: Tuple[Tuple[str, Optional[str]], ...] = ()
    ms: int = 0
    paths: Tuple[str, ...] = ()
    call: Optional[Predicate] = None
    parts: Tuple["Policy", ...] = ()


def none() -> Policy:
    """Never: the step runs every time, and nothing of it is kept."""
    return Policy("none")


def forever(env_keys: Sequence[str] = ()) -> Policy:
    """For as long as it is there, and as these variables are the same. Such a step sees no source, unless it
    declares inputs."""
    return Policy("forever", env=tuple((name, env(name)) for name in env_keys))


def ttl(time: Duration) -> Policy:
    """For so long after it was made. Such a step sees no source, unless it declares inputs."""
    return Policy("ttl", ms=milliseconds(time))


def on_change(*paths: str) -> Policy:
    """As long as these files are the same: ``inputs`` by another name."""
    if not paths:
        raise PipelineError("`on_change` names no files")
    return Policy("on_change", paths=paths)


def predicate(call: Predicate) -> Policy:
    """As long as what this function gives is the same: a str, an int or bytes. It is called at every run."""
    if not callable(call):
        raise PipelineError(f"`predicate` needs a function, and got {type(call).__name__}")
    return Policy("predicate", call=call)


def compose(*policies: Policy) -> Policy:
    """As long as all of these hold."""
    for policy in policies:
        if not isinstance(policy, Policy):
            raise PipelineError(f"`compose` needs policies, and got {type(policy).__name__}")
    return Policy("compose", parts=policies)


def flatten(policy: Optional[Policy]) -> List[Policy]:
    """The policies that a policy is made of."""
    if policy is None:
        return []
    if policy.kind != "compose":
        return [policy]
    return [part for each in policy.parts for part in flatten(each)]


def emit(policy: Policy, step: str) -> Any:
    """A policy as it is handed over."""
    if policy.kind == "none":
        return "none"
    if policy.kind == "ttl":
        return {"ttl": {"ms": policy.ms}}
    if policy.kind == "forever":
        values: Dict[str, Any] = {"env": dict(sorted(policy.env))} if policy.env else {}
        return {"forever": values}
    return {"predicate": _called(policy, step)}


def _called(policy: Policy, step: str) -> Dict[str, str]:
    assert policy.call is not None
    name = getattr(policy.call, "__name__", "predicate")
    try:
        value = policy.call()
    except Exception as error:
        raise PipelineError(f"its predicate `{name}` failed: {type(error).__name__}: {error}", step=step) from error
    if isinstance(value, str):
        return {"str": value}
    if isinstance(value, bytes):
        return {"bytes": value.hex()}
    if isinstance(value, int) and not isinstance(value, bool):
        return {"int": str(value)}
    raise PipelineError(
        f"its predicate `{name}` gave {value!r}, and has to give a str, an int or bytes", step=step
    )
