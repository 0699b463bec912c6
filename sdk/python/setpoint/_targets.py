"""Targets and pipelines: functions whose parameters are other targets."""

from __future__ import annotations

import inspect
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Callable, Dict, Iterable, Iterator, List, Optional, TypeVar, Union, overload

from ._errors import PipelineError, did_you_mean, kind, place
from ._steps import Barrier, Group, Step, network as _network
from ._values import Duration, EnvValues, Texts, environment, milliseconds, name as _name, text, texts

if TYPE_CHECKING:
    from ._steps import Network

F = TypeVar("F", bound=Callable[..., Any])


class Target:
    """A function that gives steps, and where it was written."""

    def __init__(self, name: str, function: Callable[..., Any]) -> None:
        self.name = name
        self.function = function
        code = getattr(inspect.unwrap(function), "__code__", None)
        if code is not None:
            self.file, self.line = code.co_filename, code.co_firstlineno
        else:
            file, _, line = place().rpartition(":")
            self.file, self.line = file, int(line)

    @property
    def place(self) -> str:
        """The file and line where it was written."""
        return f"{self.file}:{self.line}"

    def is_again(self, other: Target) -> bool:
        """Whether the other is this one, from a file that was loaded twice."""
        ours, theirs = self.function, other.function
        return self.place == other.place and ours.__module__ != theirs.__module__


class Pipeline(Target):
    """A target with a name to run it by, and with values that are laid under those of its steps."""

    def __init__(self, name: str, function: Callable[..., Any], values: Dict[str, Any]) -> None:
        super().__init__(name, function)
        try:
            self.image: Optional[str] = _given(values, "image", text)
            self.host_paths: List[str] = texts("host_paths", values["host_paths"])
            self.env: Dict[str, str] = environment(values["env"] or {})
            self.timeout_ms: Optional[int] = _given(values, "timeout", milliseconds)
            self.user: Optional[str] = _given(values, "user", text)
            self.network: Optional[str] = _given(values, "network", _network)
            self.workdir: Optional[str] = _given(values, "workdir", text)
        except PipelineError as error:
            raise PipelineError(f"pipeline `{name}`: {error.what}", error.hint) from None
        if self.image is not None and self.host_paths:
            what = f"pipeline `{name}`: `host_paths` is for the host's own system only"
            raise PipelineError(what, "remove `host_paths`, or `image`")

    @property
    def doc(self) -> Optional[str]:
        """What its function says about itself."""
        return inspect.getdoc(self.function)


def _given(values: Dict[str, Any], key: str, check: Callable[[str, object], Any]) -> Any:
    return None if values[key] is None else check(key, values[key])


class Registry:
    """The targets and pipelines that were declared."""

    def __init__(self) -> None:
        self.targets: Dict[str, Target] = {}
        self.pipelines: Dict[str, Pipeline] = {}

    def add_target(self, target: Target) -> None:
        """Takes a target, whose name has to be new."""
        _add(self.targets, target, "targets")

    def add_pipeline(self, pipeline: Pipeline) -> None:
        """Takes a pipeline, whose name has to be new."""
        _add(self.pipelines, pipeline, "pipelines")

    def pipeline(self, name: str) -> Pipeline:
        """The pipeline of this name."""
        if name not in self.pipelines:
            known = ", ".join(f"`{known}`" for known in sorted(self.pipelines))
            otherwise = f"the pipelines are: {known}" if known else 'declare one with @sp.pipeline("ci")'
            raise UnknownPipeline(f"there is no pipeline `{name}`", did_you_mean(name, self.pipelines, otherwise))
        return self.pipelines[name]

    def build(self, pipeline: Pipeline) -> List[Step]:
        """The steps that a pipeline returns. Every target that it asks for is called once."""
        given = _Build(self.targets).call(pipeline, f"pipeline `{pipeline.name}`", [])
        return _steps(given, f"pipeline `{pipeline.name}`", "return its last steps")


class UnknownPipeline(PipelineError):
    """There is no pipeline of the name that was asked for."""


class _Build:
    """One evaluation: what each target gave."""

    def __init__(self, targets: Dict[str, Target]) -> None:
        self._targets = targets
        self._built: Dict[str, Any] = {}

    def call(self, target: Target, label: str, path: List[str]) -> Any:
        arguments: Dict[str, Any] = {}
        for parameter in inspect.signature(target.function).parameters.values():
            if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD, parameter.POSITIONAL_ONLY):
                what = f"{label} has the parameter `{parameter}`, which cannot be a target"
                raise PipelineError(what, "name the targets that it builds on")
            if parameter.name in self._targets:
                arguments[parameter.name] = self._get(parameter.name, path)
            elif parameter.default is parameter.empty:
                what = f"{label} has the parameter `{parameter.name}`, and there is no target of this name"
                hint = did_you_mean(parameter.name, self._targets, "declare one with @sp.target()")
                raise PipelineError(what, hint)
        return target.function(**arguments)

    def _get(self, name: str, path: List[str]) -> Any:
        if name in path:
            names = " -> ".join([*path[path.index(name):], name])
            raise PipelineError(f"these targets wait for each other: {names}", "take one of these parameters out")
        if name not in self._built:
            label = f"target `{name}`"
            given = self.call(self._targets[name], label, [*path, name])
            if not isinstance(given, (Step, Group, Barrier)):
                given = tuple(_steps(given, label, "return a step, or a tuple of steps"))
            self._built[name] = given
        return self._built[name]


def _add(known: Dict[str, Any], target: Target, what: str) -> None:
    first = known.get(target.name)
    if first is None:
        known[target.name] = target
    elif not first.is_again(target):
        found = f"there are two {what} `{target.name}`: {first.place} and {target.place}"
        raise PipelineError(found, "rename one of them")


def _steps(value: Any, label: str, hint: str) -> List[Step]:
    """The steps in what a function returned."""
    if isinstance(value, Step):
        return [value]
    items = value.steps if isinstance(value, (Group, Barrier)) else value
    if isinstance(items, (str, bytes)) or not isinstance(items, Iterable):
        raise PipelineError(f"{label} returned {kind(value)}", hint)
    steps = [step for item in items for step in _steps(item, label, hint)]
    if not steps:
        raise PipelineError(f"{label} returned no step", hint)
    return steps


_registry = Registry()


@contextmanager
def declared_in(registry: Registry) -> Iterator[Registry]:
    """Targets and pipelines are taken by this registry inside of the block."""
    global _registry
    before, _registry = _registry, registry
    try:
        yield registry
    finally:
        _registry = before


@overload
def target(function: F) -> F: ...
@overload
def target() -> Callable[[F], F]: ...
def target(function: Optional[F] = None) -> Union[F, Callable[[F], F]]:
    """Declares a function that gives a step, or a tuple of steps, for the parameters of others.

    Its own parameters are targets too, by their names. It is called at most once in an evaluation.
    """

    def declare(function: F) -> F:
        _registry.add_target(Target(function.__name__, function))
        return function

    return declare if function is None else declare(function)


def pipeline(
    name: str,
    *,
    image: Optional[str] = None,
    host_paths: Texts = (),
    env: Optional[EnvValues] = None,
    timeout: Optional[Duration] = None,
    user: Optional[str] = None,
    network: Optional[Network] = None,
    workdir: Optional[str] = None,
) -> Callable[[F], F]:
    """Declares a pipeline: a function that returns its last steps, a group, a barrier, or several of these.

    Its parameters are targets by their names. The values are laid under those of every step; a step that
    starts from another takes neither image nor host_paths. ``timeout`` is for the pipeline as a whole.
    """
    if callable(name):
        raise PipelineError("`@sp.pipeline` has no name", 'write @sp.pipeline("ci")')
    checked = _name("pipeline", name)
    values = {
        "image": image,
        "host_paths": host_paths,
        "env": env,
        "timeout": timeout,
        "user": user,
        "network": network,
        "workdir": workdir,
    }

    def declare(function: F) -> F:
        _registry.add_pipeline(Pipeline(checked, function, values))
        return function

    return declare
