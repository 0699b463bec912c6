"""Pipelines and targets: functions that give steps, and are given those that they ask for by name."""

from __future__ import annotations

import difflib
import inspect
from dataclasses import dataclass
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, TypeVar

from ._emit import collect, emit
from ._errors import PipelineError
from ._steps import Step, check_name
from ._values import Duration, milliseconds

Function = TypeVar("Function", bound=Callable[..., Any])


@dataclass
class Declared:
    """A pipeline, as it was declared."""

    name: str
    call: Callable[..., Any]
    common: Dict[str, Any]
    timeout_ms: Optional[int]
    file: str
    line: int


pipelines: Dict[str, Declared] = {}
targets: Dict[str, Callable[..., Any]] = {}


def pipeline(
    name: str,
    *,
    image: Optional[str] = None,
    host_paths: Sequence[str] = (),
    env: Optional[Mapping[str, str]] = None,
    timeout: Optional[Duration] = None,
    user: Optional[str] = None,
    network: Optional[str] = None,
    workdir: Optional[str] = None,
) -> Callable[[Function], Function]:
    """Declares a pipeline: a function that gives a step, a group, a barrier, or several of them. What is said here is
    laid under each of its steps."""
    check_name(name)

    def declare(call: Function) -> Function:
        code = call.__code__
        if name in pipelines:
            other = pipelines[name]
            raise PipelineError(
                f"the pipeline `{name}` is there twice: {other.file}:{other.line} and "
                f"{code.co_filename}:{code.co_firstlineno}"
            )
        common: Dict[str, Any] = {
            "image": image, "host_paths": list(host_paths), "env": dict(env or {}), "user": user,
            "network": network, "workdir": workdir,
        }
        limit = None if timeout is None else milliseconds(timeout)
        pipelines[name] = Declared(name, call, common, limit, code.co_filename, code.co_firstlineno)
        return call

    return declare


def target() -> Callable[[Function], Function]:
    """Declares a target: a function that gives steps, and is called once for all who ask for it by its name."""

    def declare(call: Function) -> Function:
        targets[call.__name__] = call
        return call

    return declare


def evaluate(name: str) -> Dict[str, Any]:
    """Calls the function of a pipeline, and those of the targets that it asks for; gives the pipeline."""
    if name not in pipelines:
        near = difflib.get_close_matches(name, list(pipelines), n=1)
        hint = f"did you mean `{near[0]}`?" if near else f"there is: {', '.join(sorted(pipelines)) or 'none'}"
        raise PipelineError(f"there is no pipeline `{name}`; {hint}")
    declared = pipelines[name]
    made: Dict[str, Any] = {}
    result = declared.call(**_injected(declared.call, f"the pipeline `{name}`", made, []))
    steps: List[Step] = []
    collect(result, steps)
    if not steps:
        raise PipelineError(f"the pipeline `{name}` gives no steps; return them from its function")
    return emit(name, steps, declared.common, declared.timeout_ms)


def _injected(call: Callable[..., Any], what: str, made: Dict[str, Any], under_way: List[str]) -> Dict[str, Any]:
    arguments: Dict[str, Any] = {}
    for parameter in inspect.signature(call).parameters.values():
        name = parameter.name
        if name not in targets:
            if parameter.default is not inspect.Parameter.empty:
                continue
            near = difflib.get_close_matches(name, list(targets), n=1)
            hint = f"did you mean `{near[0]}`?" if near else "declare it: @sp.target() above a function of that name"
            raise PipelineError(f"{what} asks for the target `{name}`, and there is none; {hint}")
        if name in under_way:
            cycle = " -> ".join([*under_way[under_way.index(name):], name])
            raise PipelineError(f"these targets ask for each other: {cycle}")
        if name not in made:
            of_target = _injected(targets[name], f"the target `{name}`", made, [*under_way, name])
            made[name] = targets[name](**of_target)
        arguments[name] = made[name]
    return arguments
