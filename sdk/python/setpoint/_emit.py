"""From steps to the one form in which pipelines are handed over."""

from __future__ import annotations

import heapq
from typing import Any, Dict, Iterable, List, Mapping, Optional, Set, Union

from ._cache import emit as emit_policy
from ._cache import flatten
from ._errors import PipelineError
from ._steps import Barrier, Group, Step, _near, made_up, options_of

#: The version of the form.
VERSION = 1

# The order of the keys of a step, as the binary writes them.
_KEYS = (
    "name run image host_paths from needs after take inputs outputs artifacts cache_dirs env cache timeout_ms retries "
    "workdir user network git when"
).split()


def collect(result: Any, into: List[Step]) -> None:
    """The steps that a pipeline's function gave, in whatever shape."""
    if isinstance(result, Step):
        into.append(result)
    elif isinstance(result, Group):
        into.extend([*result.steps, *result.passed])
    elif isinstance(result, Barrier):
        into.extend([*result.before, *result.passed])
    elif result is None:
        return
    elif isinstance(result, Iterable) and not isinstance(result, (str, bytes)):
        for item in result:
            collect(item, into)
    else:
        raise PipelineError(f"a pipeline gives steps, and this one gave {type(result).__name__}")


def _reachable(given: List[Step]) -> List[Step]:
    found: List[Step] = []
    seen: Set[int] = set()
    left = list(reversed(given))
    while left:
        step = left.pop()
        if id(step) in seen:
            continue
        seen.add(id(step))
        found.append(step)
        links: List[Union[str, Step, None]] = [step.parent, *step.needs, *step.after, *step.take]
        left.extend(link for link in links if isinstance(link, Step))
    return found


def _named(steps: List[Step]) -> Dict[int, str]:
    names: Dict[int, str] = {}
    taken: Set[str] = set()
    for step in steps:
        if step.name is not None:
            if step.name in taken:
                raise PipelineError(f"there are two steps `{step.name}`; every step has a name of its own")
            taken.add(step.name)
            names[id(step)] = step.name
    for step in sorted((step for step in steps if step.name is None), key=lambda step: made_up(step.run)):
        base = made_up(step.run)
        name, number = base, 2
        while name in taken:
            name, number = f"{base}-{number}", number + 1
        taken.add(name)
        names[id(step)] = name
    return names


def emit(name: str, given: List[Step], common: Mapping[str, Any], timeout_ms: Optional[int]) -> Dict[str, Any]:
    """A pipeline, as it is handed over."""
    steps = _reachable(given)
    names = _named(steps)
    known = set(names.values())

    def name_of(link: Union[str, Step], step: str, key: str) -> str:
        linked = names[id(link)] if isinstance(link, Step) else link
        if linked not in known:
            raise PipelineError(f"`{key}`: there is no step `{linked}`{_near(linked, known)}", step=step)
        return linked

    emitted: Dict[str, Dict[str, Any]] = {}
    for step in steps:
        own = names[id(step)]
        out: Dict[str, Any] = {"name": own, "run": step.run, **options_of(_laid_over(step, common), own)}
        if step.parent is not None:
            if "image" in out:
                raise PipelineError("it has two bases: it starts from another step, and has an `image`", step=own)
            out["from"] = names[id(step.parent)]
        for key in ("needs", "after"):
            links = sorted({name_of(link, own, key) for link in getattr(step, key)})
            if links:
                out[key] = links
        taken = [name_of(link, own, "take") for link in step.take]
        if taken:
            out["take"] = list(dict.fromkeys(taken))
        policies = [policy for policy in flatten(step.options.get("cache")) if policy.kind != "on_change"]
        if any(policy.kind == "none" for policy in policies) and len(policies) > 1:
            raise PipelineError("`none` goes with no other policy", step=own)
        if policies:
            out["cache"] = [emit_policy(policy, own) for policy in policies]
        emitted[own] = {key: out[key] for key in _KEYS if key in out}
    pipeline: Dict[str, Any] = {"setpoint_ir": VERSION, "name": name}
    if timeout_ms is not None:
        pipeline["timeout_ms"] = timeout_ms
    pipeline["steps"] = _ordered(emitted)
    return pipeline


def _laid_over(step: Step, common: Mapping[str, Any]) -> Step:
    """A step with what is common to the pipeline below its own."""
    options = dict(step.options)
    for key in ("user", "network", "workdir"):
        if options.get(key) is None and common.get(key) is not None:
            options[key] = common[key]
    if step.parent is None and options.get("image") is None and common.get("image") is not None:
        options["image"] = common["image"]
    if options.get("host_paths") is None and step.options.get("image") is None and common.get("host_paths"):
        options["host_paths"] = common["host_paths"]
    options["env"] = {**(common.get("env") or {}), **(options.get("env") or {})}
    return Step(step.run, step.name, step.parent, options)


def _ordered(steps: Dict[str, Dict[str, Any]]) -> List[Dict[str, Any]]:
    parents = {
        name: {*step.get("needs", ()), *step.get("after", ()), *step.get("take", ()), *filter(None, [step.get("from")])}
        for name, step in steps.items()
    }
    waiting = {name: len(above) for name, above in parents.items()}
    ready = [name for name, count in waiting.items() if count == 0]
    heapq.heapify(ready)
    ordered = []
    while ready:
        name = heapq.heappop(ready)
        ordered.append(steps[name])
        for child, above in parents.items():
            if name in above:
                waiting[child] -= 1
                if waiting[child] == 0:
                    heapq.heappush(ready, child)
    if len(ordered) < len(steps):
        left = sorted(set(steps) - {step["name"] for step in ordered})
        raise PipelineError(f"these steps wait for each other: {', '.join(left)}; take one of the edges out")
    return ordered
