"""Steps, and the shapes that they are put together in."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional, Sequence, Tuple, Union

from ._cache import Policy, flatten
from ._errors import PipelineError
from ._values import Duration, escape, milliseconds

Command = Union[str, Sequence[str]]
Names = Union[str, "Step", Iterable[Union[str, "Step"]]]
Text = Union[str, Iterable[str]]


@dataclass(frozen=True)
class Optionally:
    """A pattern of inputs that may fit nothing; made by :func:`optional`."""

    glob: str


def optional(glob: str) -> Optionally:
    """A pattern of inputs that may fit nothing."""
    return Optionally(glob)


@dataclass(frozen=True)
class When:
    """When a step is part of a run; made by :func:`when`."""

    branch: Tuple[str, ...] = ()
    tag: Tuple[str, ...] = ()
    event: Tuple[str, ...] = ()
    env: Tuple[Tuple[str, str], ...] = ()


def when(
    *, branch: Text = (), tag: Text = (), event: Text = (), env: Optional[Mapping[str, str]] = None
) -> When:
    """When a step is part of a run: patterns, of each key one has to fit."""
    return When(_texts(branch), _texts(tag), _texts(event), tuple(sorted((env or {}).items())))


def _texts(value: Text) -> Tuple[str, ...]:
    return (value,) if isinstance(value, str) else tuple(value)


@dataclass(eq=False)
class Step:
    """A command in a sandbox of its own. Made by :func:`sh`, and by the method of that name."""

    run: Union[str, List[str]]
    name: Optional[str]
    parent: Optional["Step"]
    options: Dict[str, Any]
    needs: List[Union[str, "Step"]] = field(default_factory=list)
    after: List[Union[str, "Step"]] = field(default_factory=list)
    take: List[Union[str, "Step"]] = field(default_factory=list)

    def sh(self, cmd: Command, **options: Any) -> "Step":
        """A step that starts from the file system and the workspace of this one."""
        return _step(cmd, self, options)

    def fork(self, *branches: Union["Step", Callable[["Step"], "Step"]]) -> Tuple["Step", ...]:
        """Several steps, side by side, each of which starts from this one."""
        forked = []
        for branch in branches:
            if isinstance(branch, Step):
                first = branch
                while first.parent is not None:
                    first = first.parent
                if first is self:
                    raise PipelineError("a branch of `fork` begins with `sp.sh`, or is a function of the step")
                first.parent = self
                forked.append(branch)
            elif callable(branch):
                forked.append(branch(self))
            else:
                raise PipelineError(f"`fork` needs steps, and got {type(branch).__name__}")
        return tuple(forked)

    def wait(self, *, continue_on_failure: bool = False) -> "Barrier":
        """What follows begins when this step has ended."""
        return group(self).wait(continue_on_failure=continue_on_failure)


@dataclass(eq=False)
class Group:
    """Steps without order among them."""

    steps: List[Step]
    passed: List[Step] = field(default_factory=list)

    def wait(self, *, continue_on_failure: bool = False) -> "Barrier":
        """What follows begins when all of these have ended: well, or, with ``continue_on_failure``, in whatever way.
        A later barrier without it still asks that they have ended well."""
        return Barrier(self.steps, self.passed, continue_on_failure)

    def __iter__(self) -> Any:
        return iter(self.steps)


@dataclass(eq=False)
class Barrier:
    """What follows waits for what came before."""

    before: List[Step]
    passed: List[Step]
    goes_on: bool

    def sh(self, cmd: Command, **options: Any) -> Step:
        """A step behind the barrier."""
        return self._behind(_step(cmd, None, options))

    def _behind(self, step: Step) -> Step:
        first = step
        while first.parent is not None:
            first = first.parent
        if self.goes_on:
            first.after.extend(self.before)
            first.needs.extend(self.passed)
        else:
            first.needs.extend([*self.passed, *self.before])
        return step

    def group(self, *steps: Union[Step, Group]) -> Group:
        """Several steps behind the barrier."""
        behind = [self._behind(step) for step in group(*steps)]
        # What a barrier let pass although it failed counts again at the next.
        return Group(behind, [*self.passed, *(self.before if self.goes_on else [])])

    def wait(self, *, continue_on_failure: bool = False) -> "Barrier":
        """Two barriers in a row are one: the stricter of them."""
        return Barrier(self.before, self.passed, self.goes_on and continue_on_failure)


def group(*steps: Union[Step, Group, Tuple[Step, ...]]) -> Group:
    """Steps without order among them."""
    found: List[Step] = []
    passed: List[Step] = []
    for step in steps:
        if isinstance(step, Step):
            found.append(step)
        elif isinstance(step, Group):
            found.extend(step.steps)
            passed.extend(step.passed)
        elif isinstance(step, (tuple, list)):
            found.extend(group(*step).steps)
        else:
            raise PipelineError(f"`group` needs steps, and got {type(step).__name__}")
    return Group(found, passed)


_OPTIONS = frozenset(
    "image host_paths needs after take inputs outputs artifacts cache_dirs env cache timeout retries workdir user "
    "network git when name".split()
)


def sh(cmd: Command, **options: Any) -> Step:
    """A step that runs a command: a text for ``/bin/sh -c``, or a program with its arguments.

    Options: name, image, host_paths, needs, after, take, inputs, outputs, artifacts, cache_dirs, env, cache, timeout,
    retries, workdir, user, network, git, when. They mean what the keys of a step in the manifest mean.
    """
    return _step(cmd, None, options)


def _step(cmd: Command, parent: Optional[Step], options: Dict[str, Any]) -> Step:
    for key in options:
        if key not in _OPTIONS:
            raise PipelineError(f"a step has no `{key}`{_near(key, _OPTIONS)}")
    if isinstance(cmd, str):
        run: Union[str, List[str]] = cmd
    else:
        run = [str(word) for word in cmd]
    if not (run.strip() if isinstance(run, str) else run and run[0].strip()):
        raise PipelineError("a step runs nothing: its command is empty")
    name = options.pop("name", None)
    if name is not None:
        check_name(name)
    step = Step(run, name, parent, options)
    for key in ("needs", "after", "take"):
        getattr(step, key).extend(_names(options.pop(key, ()), key))
    policies = flatten(options.get("cache"))
    if any(policy.kind == "on_change" for policy in policies) and options.get("inputs") is not None:
        raise PipelineError("there are both `inputs` and `on_change`, which is `inputs` by another name", step=name)
    return step


def _names(value: Names, key: str) -> List[Union[str, Step]]:
    if isinstance(value, (str, Step)):
        return [value]
    if isinstance(value, Group):
        return list(value.steps)
    found = list(value)
    for item in found:
        if not isinstance(item, (str, Step)):
            raise PipelineError(f"`{key}` needs steps or their names, and got {type(item).__name__}")
    return found


def _near(word: str, known: Iterable[str]) -> str:
    import difflib

    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean `{near[0]}`?" if near else ""


def check_name(name: str) -> None:
    """Refuses what cannot be the name of a step or a pipeline."""
    if not isinstance(name, str) or not re.fullmatch(r"[a-z][a-z0-9-]{0,62}", name):
        raise PipelineError(
            f"`{name}` cannot be a name: a lower-case letter, then letters, digits and `-`, 63 at most"
        )


def made_up(run: Union[str, List[str]]) -> str:
    """A name for a step that has none, from its command."""
    text = run if isinstance(run, str) else " ".join(run)
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    name = re.sub(r"^[^a-z]+", "", name)
    return name[:40].strip("-") or "step"


def options_of(step: Step, name: str) -> Dict[str, Any]:
    """The options of a step, as they are handed over."""
    options = step.options
    out: Dict[str, Any] = {}
    policies = flatten(options.get("cache"))
    for policy in policies:
        if not isinstance(policy, Policy):
            raise PipelineError(f"`cache` needs a policy, and got {type(policy).__name__}", step=name)
    inputs = options.get("inputs")
    changed = [path for policy in policies if policy.kind == "on_change" for path in policy.paths]
    if changed:
        inputs = changed
    if inputs is not None:
        listed = [inputs] if isinstance(inputs, (str, Optionally)) else list(inputs)
        out["inputs"] = [
            {"glob": item.glob, "optional": True} if isinstance(item, Optionally) else str(item) for item in listed
        ]
    for key in ("image", "workdir", "user"):
        if options.get(key) is not None:
            out[key] = str(options[key])
    for key in ("host_paths", "artifacts", "cache_dirs"):
        if options.get(key):
            out[key] = list(_texts(options[key]))
    if options.get("outputs") is not None:
        out["outputs"] = list(_texts(options["outputs"]))
    if options.get("timeout") is not None:
        out["timeout_ms"] = milliseconds(options["timeout"])
    if options.get("retries"):
        out["retries"] = int(options["retries"])
    if options.get("network") not in (None, "host"):
        out["network"] = str(options["network"])
    if options.get("git"):
        out["git"] = True
    if options.get("env"):
        out["env"] = {key: escape(_variable(key, value, name)) for key, value in sorted(options["env"].items())}
    conditions = options.get("when")
    if conditions is not None:
        listed = [(key, list(getattr(conditions, key))) for key in ("branch", "tag", "event")]
        told: Dict[str, Any] = {key: value for key, value in listed if value}
        if conditions.env:
            told["env"] = dict(conditions.env)
        if told:
            out["when"] = told
    return out


def _variable(key: str, value: Any, step: str) -> str:
    if not isinstance(value, str):
        raise PipelineError(f"the variable {key} needs a text, and got {type(value).__name__}", step=step)
    return value
