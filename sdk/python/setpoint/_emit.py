"""The form in which a pipeline is handed over."""

from __future__ import annotations

import heapq
from typing import Any, Dict, Iterable, List, Sequence, Set, Tuple

from ._cache import Input, OptionalInput
from ._errors import PipelineError, did_you_mean
from ._steps import Barrier, Step, slug
from ._targets import Pipeline

VERSION = 1


def emit(pipeline: Pipeline, roots: Sequence[Step]) -> Dict[str, Any]:
    """The pipeline with all steps that these build on or wait for, as it stands in JSON."""
    graph = _Graph(_reachable(roots))
    emitted: Dict[str, Any] = {"setpoint_ir": VERSION, "name": pipeline.name}
    if pipeline.timeout_ms is not None:
        emitted["timeout_ms"] = pipeline.timeout_ms
    given: Dict[int, Any] = {}
    emitted["steps"] = [_step(step, graph, pipeline, given) for step in graph.order()]
    return emitted


def _direct(step: Step) -> Iterable[Any]:
    """What a step names: steps, and names of steps."""
    if step.base is not None:
        yield step.base
    yield from step.take
    yield from step.needs
    yield from step.after
    for barrier in step.barriers:
        yield from barrier.steps


def _reachable(roots: Sequence[Step]) -> List[Step]:
    """These steps and all that they depend on, in the order in which they were made."""
    found: Set[Step] = set()
    left = list(roots)
    while left:
        step = left.pop()
        if step not in found:
            found.add(step)
            left.extend(parent for parent in _direct(step) if isinstance(parent, Step))
    return sorted(found, key=lambda step: step.number)


class _Graph:
    """The steps of a pipeline with their names, and what each depends on."""

    def __init__(self, steps: List[Step]) -> None:
        self._steps = steps
        self.names = _names(steps)
        self._named = {name: step for step, name in self.names.items()}
        self._parents = {step: [self._resolve(step, parent) for parent in _direct(step)] for step in steps}
        self._befores: Dict[Barrier, Set[Step]] = {}
        self.needs = {step: self._listed(step, step.needs, False) for step in steps}
        self.after = {step: self._listed(step, step.after, True) for step in steps}
        self.take = {step: [self.names[self._resolve(step, parent)] for parent in step.take] for step in steps}

    def _resolve(self, step: Step, parent: Any) -> Step:
        own = self.names[step]
        if isinstance(parent, str):
            if parent not in self._named:
                known = set(self._named) - {own}
                hint = did_you_mean(parent, known, "name a step of this pipeline, or give the step itself")
                raise PipelineError(f"there is no step `{parent}`", hint, step=own)
            parent = self._named[parent]
        if parent is step:
            raise PipelineError(f"`{own}` depends on itself", "take it out", step=own)
        found: Step = parent
        return found

    def _listed(self, step: Step, given: Sequence[Any], passing: bool) -> List[str]:
        """The names in `needs`, or in `after`: what the step lists and what its barriers stand for."""
        found = {self._resolve(step, parent) for parent in given}
        for barrier in step.barriers:
            if barrier.continue_on_failure == passing:
                found.update(self._before(barrier))
        return sorted({self.names[self._resolve(step, parent)] for parent in found})

    def _before(self, barrier: Barrier) -> Set[Step]:
        """The steps that a barrier waits for, and those that barriers before it let pass."""
        # All the steps behind a barrier ask for the same.
        known = self._befores.get(barrier)
        if known is not None:
            return known
        before = set(barrier.steps)
        seen: Set[Step] = set()
        left = list(barrier.steps)
        while left:
            step = left.pop()
            if step not in seen:
                seen.add(step)
                left.extend(self._parents[step])
                for earlier in step.barriers:
                    if earlier.continue_on_failure:
                        before.update(earlier.steps)
        self._befores[barrier] = before
        return before

    def order(self) -> List[Step]:
        """The steps, each after those that it depends on, by name where that leaves a choice."""
        waiting = {step: set(parents) for step, parents in self._parents.items()}
        children: Dict[Step, List[Step]] = {step: [] for step in self._steps}
        for step, parents in waiting.items():
            for parent in parents:
                children[parent].append(step)
        ready = [self.names[step] for step, parents in waiting.items() if not parents]
        heapq.heapify(ready)
        order: List[Step] = []
        while ready:
            step = self._named[heapq.heappop(ready)]
            order.append(step)
            for child in children[step]:
                waiting[child].discard(step)
                if not waiting[child]:
                    heapq.heappush(ready, self.names[child])
        if len(order) < len(self._steps):
            raise self._cycle(set(order))
        return order

    def _cycle(self, placed: Set[Step]) -> PipelineError:
        # Every step that is left depends on one that is left: walking back, one comes twice.
        step = next(step for step in self._steps if step not in placed)
        path: List[Step] = []
        while step not in path:
            path.append(step)
            step = next(parent for parent in self._parents[step] if parent not in placed)
        names = [self.names[step] for step in path[path.index(step):]]
        first = names.index(min(names))
        names = [*names[first:], *names[:first + 1]]
        what = f"these steps wait for each other: {' -> '.join(names)}"
        return PipelineError(what, "take one of these edges out", step=names[0])


def _names(steps: List[Step]) -> Dict[Step, str]:
    """The names of the steps: those given, and for the others ones made from their commands."""
    taken: Dict[str, Step] = {}
    for step in steps:
        if step.name is not None:
            first = taken.setdefault(step.name, step)
            if first is not step:
                what = f"there are two steps `{step.name}`: {first.place} and {step.place}"
                raise PipelineError(what, "every step has a name of its own", step=step.name)
    for step in steps:
        if step.name is None:
            taken[_free(slug(step.run), taken)] = step
    return {step: name for name, step in taken.items()}


def _free(name: str, taken: Dict[str, Step]) -> str:
    free = name
    number = 1
    while free in taken:
        number += 1
        ending = f"-{number}"
        free = name[:63 - len(ending)] + ending
    return free


def _step(step: Step, graph: _Graph, pipeline: Pipeline, given: Dict[int, Any]) -> Dict[str, Any]:
    name = graph.names[step]
    image, host_paths = _system(step, pipeline, name)
    run_in = step.workdir or pipeline.workdir
    network = step.network or pipeline.network
    env = {**pipeline.env, **step.env}
    emitted = {
        "name": name,
        "run": step.run,
        "image": image,
        "host_paths": host_paths or None,
        "from": graph.names[step.base] if step.base is not None else None,
        "needs": graph.needs[step] or None,
        "after": graph.after[step] or None,
        "take": graph.take[step] or None,
        "inputs": None if step.inputs is None else [_input(pattern) for pattern in step.inputs],
        "outputs": step.outputs,
        "artifacts": step.artifacts or None,
        "cache_dirs": step.cache_dirs or None,
        "services": step.services or None,
        "env": {key: env[key] for key in sorted(env)} or None,
        "cache": (step.cache.emit(name, given) if step.cache is not None else None) or None,
        "timeout_ms": step.timeout_ms,
        "retries": step.retries or None,
        "workdir": run_in,
        "user": step.user or pipeline.user,
        "network": network if network != "host" else None,
        "git": step.git or None,
        "when": _when(step) or None,
    }
    return {key: value for key, value in emitted.items() if value is not None}


def _system(step: Step, pipeline: Pipeline, name: str) -> Tuple[Any, List[str]]:
    """The image and the host paths: the step's own, and where it says nothing the pipeline's."""
    if step.base is not None:
        return None, step.host_paths or []
    image = step.image or pipeline.image
    if image is None:
        return None, pipeline.host_paths if step.host_paths is None else step.host_paths
    if step.host_paths:
        what = f"`host_paths` is for the host's own system only, and the pipeline's image is `{image}`"
        raise PipelineError(what, "remove `host_paths`, or give `image` to the steps instead", step=name)
    return image, []


def _input(pattern: Input) -> Any:
    return {"glob": pattern.glob, "optional": True} if isinstance(pattern, OptionalInput) else pattern


def _when(step: Step) -> Dict[str, Any]:
    if step.when is None:
        return {}
    when = step.when
    env = {key: when.env[key] for key in sorted(when.env)}
    lists = {"branch": when.branch, "tag": when.tag, "event": when.event, "env": env}
    return {key: value for key, value in lists.items() if value}
