"""Steps, and what is between them."""

from __future__ import annotations

import itertools
import re
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterable,
    Iterator,
    List,
    Optional,
    Sequence,
    Tuple,
    TypedDict,
    Union,
)

from ._cache import Input, Inputs, Policy, inputs
from ._errors import PipelineError, did_you_mean, kind, place
from ._values import Duration, EnvValues, Texts, When, environment, milliseconds, name, sound, text, texts

if TYPE_CHECKING:
    from typing_extensions import Literal, Unpack

    Network = Literal["host", "none"]

Command = Union[str, Sequence[str]]
Reference = Union["Step", "Group", str]
References = Union[Reference, Iterable[Reference]]

_numbers = itertools.count()


class Options(TypedDict, total=False):
    """What can be said about a step, besides what it runs."""

    name: Optional[str]
    image: Optional[str]
    host_paths: Optional[Texts]
    needs: References
    after: References
    take: References
    inputs: Optional[Inputs]
    outputs: Optional[Texts]
    artifacts: Texts
    cache_dirs: Texts
    services: Texts
    env: Optional[EnvValues]
    cache: Optional[Policy]
    timeout: Optional[Duration]
    retries: int
    workdir: Optional[str]
    user: Optional[str]
    network: Optional[Network]
    git: bool
    when: Optional[When]


class Step:
    """A command in a sandbox of its own. Made by ``sp.sh`` and by the methods ``sh``."""

    def __init__(self, cmd: Command, base: Optional[Step], options: Dict[str, Any]) -> None:
        self.number = next(_numbers)
        self.place = place()
        self.base = base
        self.barriers: List[Barrier] = []
        self.name: Optional[str] = None
        if options.get("name") is not None:
            self.name = name("step", options["name"])
        try:
            self.run: Union[str, List[str]] = command(cmd)
            self._declare(options)
        except PipelineError as error:
            label = self.name or (slug(cmd) if isinstance(cmd, str) else None)
            raise PipelineError(error.what, error.hint, step=error.step or label) from error.__cause__
        if self.base is not None and self.image is not None:
            raise self._two_bases()

    def _declare(self, options: Dict[str, Any]) -> None:
        for key in options:
            if key not in Options.__annotations__:
                hint = did_you_mean(key, Options.__annotations__, "see help(sp.sh) for what there is")
                raise PipelineError(f"a step has no `{key}`", hint)

        def given(key: str, check: Callable[[str, object], Any], otherwise: Any = None) -> Any:
            value = options.get(key)
            return otherwise if value is None else check(key, value)

        self.image: Optional[str] = given("image", text)
        self.host_paths: Optional[List[str]] = given("host_paths", texts)
        self.needs: List[Union[Step, str]] = given("needs", references, [])
        self.after: List[Union[Step, str]] = given("after", references, [])
        self.take: List[Union[Step, str]] = given("take", references, [])
        self.inputs: Optional[List[Input]] = given("inputs", inputs)
        self.outputs: Optional[List[str]] = given("outputs", texts)
        self.artifacts: List[str] = given("artifacts", texts, [])
        self.cache_dirs: List[str] = given("cache_dirs", texts, [])
        self.services: List[str] = given("services", services, [])
        self.env: Dict[str, str] = environment(options.get("env") or {})
        self.cache: Optional[Policy] = given("cache", _policy)
        self.timeout_ms: Optional[int] = given("timeout", milliseconds)
        self.retries: int = given("retries", _count, 0)
        self.workdir: Optional[str] = given("workdir", text)
        self.user: Optional[str] = given("user", text)
        self.network: Optional[str] = given("network", network)
        self.git: bool = given("git", _flag, False)
        self.when: Optional[When] = given("when", _condition)
        declared = self.cache.inputs() if self.cache is not None else None
        if declared is not None:
            if self.inputs is not None:
                raise PipelineError("it has `inputs` and `sp.on_change`, which are the same", "keep one of them")
            self.inputs = declared
        if self.image is not None and self.host_paths:
            hint = "remove `host_paths`, or `image`"
            raise PipelineError("`host_paths` is for the host's own system only", hint)

    @property
    def label(self) -> str:
        """Its name, or the one that would be made from its command."""
        return self.name or slug(self.run)

    def sh(self, cmd: Command, **options: Unpack[Options]) -> Step:
        """A step that starts from the file system and workspace of this one. Keywords as in ``sp.sh``."""
        return Step(cmd, self, dict(options))

    def fork(self, *children: Union[Step, Callable[[Step], Step]]) -> Tuple[Step, ...]:
        """Several steps that each start from this one.

        A child is a step that starts from no other yet, or a function that takes this step and gives the
        last step of what it put behind it: ``lambda step: step.sh("a").sh("b")``.
        """
        return tuple(_child(self, child, lambda step: step._start_from(self)) for child in children)

    def wait(self, *, continue_on_failure: bool = False) -> Barrier:
        """A barrier behind this step."""
        return Barrier((self,), continue_on_failure)

    def _start_from(self, base: Step) -> None:
        if self.base is not None:
            what = f"it starts from `{self.base.label}` and cannot start from `{base.label}` too"
            hint = 'to fork into a chain give a function: lambda step: step.sh("a").sh("b")'
            raise PipelineError(what, hint, step=self.label)
        self.base = base
        if self.image is not None:
            raise self._two_bases()

    def _two_bases(self) -> PipelineError:
        base = self.base.label if self.base is not None else ""
        what = f"it has two bases: the step `{base}` and the image `{self.image}`"
        return PipelineError(what, "keep one of them", step=self.label)

    def __repr__(self) -> str:
        return f"<step {self.label}>"


class Group:
    """Several steps."""

    def __init__(self, steps: Sequence[Step]) -> None:
        self.steps = tuple(steps)

    def wait(self, *, continue_on_failure: bool = False) -> Barrier:
        """A barrier behind all of these steps."""
        return Barrier(self.steps, continue_on_failure)

    def __iter__(self) -> Iterator[Step]:
        return iter(self.steps)

    def __len__(self) -> int:
        return len(self.steps)

    def __repr__(self) -> str:
        return f"<group {', '.join(step.label for step in self.steps)}>"


class Barrier:
    """A place in a pipeline that all steps before it have to reach. What is behind it shares no files with them.

    Behind a plain barrier steps begin when all before it ended well, also those that an earlier barrier with
    ``continue_on_failure`` let pass. With ``continue_on_failure`` they begin when all ended in whatever way.
    """

    def __init__(self, steps: Sequence[Step], continue_on_failure: bool) -> None:
        self.steps = tuple(steps)
        self.continue_on_failure = _flag("continue_on_failure", continue_on_failure)

    def sh(self, cmd: Command, **options: Unpack[Options]) -> Step:
        """A step behind the barrier. Keywords as in ``sp.sh``."""
        step = Step(cmd, None, dict(options))
        self._hold(step)
        return step

    def fork(self, *children: Union[Step, Callable[[Barrier], Step]]) -> Tuple[Step, ...]:
        """Several steps behind the barrier.

        A child is a step, which alone waits, not those that it starts from; or a function that takes the
        barrier and gives the last step of what it put behind it.
        """
        return tuple(_child(self, child, self._hold) for child in children)

    def group(self, *children: Union[Step, Callable[[Barrier], Step]]) -> Group:
        """As ``fork``, and gives a group."""
        return Group(self.fork(*children))

    def wait(self, *, continue_on_failure: bool = False) -> Barrier:
        """The same barrier; of several in a row the last one says whether failures pass."""
        return Barrier(self.steps, continue_on_failure)

    def _hold(self, step: Step) -> None:
        step.barriers.append(self)

    def __repr__(self) -> str:
        return f"<barrier behind {', '.join(step.label for step in self.steps)}>"


def sh(cmd: Command, **options: Unpack[Options]) -> Step:
    """A step that runs a command: a str for ``/bin/sh -c``, or a list with a program and its arguments.

    name         its name; made from the command if not given
    image        the image that it starts from; the host's own system if not given
    host_paths   what of the host's homes is visible, on the host's system only
    needs        steps that have to end well before it begins
    after        steps that have to end before it begins, in whatever way
    take         steps whose outputs are laid over its workspace, in this order
    inputs       the files of the source that it sees, as patterns; all if not given
    outputs      the files that it leaves for others, as patterns; all that it writes if not given
    artifacts    the files that a run hands out, as patterns
    cache_dirs   folders that it shares from run to run with every step that names them
    services     services of the manifest that it has instances of, of its own
    env          its environment; values are str or made with sp.secret
    cache        when an earlier result may be taken: sp.none, sp.forever, sp.ttl, sp.on_change, ...
    timeout      how long a try may take: "1h 30m", seconds, or a timedelta
    retries      how often it is tried again when it fails
    workdir      where it starts: absolute, or from the workspace
    user         who runs it; root if not given
    network      "host" or "none"
    git          whether it sees the repository's .git
    when         when it is part of a run at all: sp.when
    """
    return Step(cmd, None, dict(options))


def group(*steps: Union[Step, Group, Sequence[Step]]) -> Group:
    """Several steps as one: to wait for, to need, to return."""
    found = references("group", steps)
    for step in found:
        if isinstance(step, str):
            raise PipelineError(f"`group` got the str {step!r}", "give it steps")
    return Group([step for step in found if isinstance(step, Step)])


def _child(parent: Any, child: Any, attach: Callable[[Step], None]) -> Step:
    if isinstance(child, Step):
        attach(child)
        return child
    if not callable(child):
        raise PipelineError(f"`fork` got {kind(child)}", "give it steps: sp.sh(...)")
    made = child(parent)
    if not isinstance(made, Step):
        raise PipelineError(f"a function given to `fork` returned {kind(made)}", "return its last step")
    return made


def slug(cmd: Command) -> str:
    """The name that is made from a command: from the first line that holds something."""
    words = cmd if isinstance(cmd, str) else " ".join(cmd)
    first = words.strip().split("\n", 1)[0]
    made = re.sub(r"[^a-z0-9]+", "-", first.lower()).strip("-")
    if not made:
        return "step"
    if not made[0].isalpha():
        made = f"step-{made}"
    return made[:63].rstrip("-")


def command(cmd: object) -> Union[str, List[str]]:
    """What a step runs, checked."""
    if isinstance(cmd, str):
        if not cmd.strip():
            raise PipelineError("it runs nothing", "say what it runs")
        return sound("run", cmd)
    if not isinstance(cmd, (list, tuple)):
        raise PipelineError(f"its command is {kind(cmd)}", "give a str for the shell, or a list of str")
    for word in cmd:
        if not isinstance(word, str):
            raise PipelineError(f"its command holds {kind(word)}: {word!r}", "give every argument as a str")
    if not cmd or not cmd[0].strip():
        raise PipelineError("it runs nothing", "say what it runs")
    return [sound("run", word) for word in cmd]


def references(key: str, value: object) -> List[Union[Step, str]]:
    """The steps that are meant: steps, their names, groups, and lists of these."""
    if isinstance(value, Step):
        return [value]
    if isinstance(value, str):
        return [name("step", value)]
    if isinstance(value, Group):
        return list(value.steps)
    if isinstance(value, Barrier):
        raise PipelineError(f"`{key}` got a barrier", "give it steps, or put the step behind it: barrier.sh(...)")
    if isinstance(value, (list, tuple, Iterator)):
        return [step for item in value for step in references(key, item)]
    raise PipelineError(f"`{key}` got {kind(value)}", "give it steps, names of steps, or a list of them")


def services(key: str, value: object) -> List[str]:
    """The services that are meant, each once."""
    return sorted({name("service", one) for one in texts(key, value)})


def network(key: str, value: object) -> str:
    """The network that a step sees."""
    if value not in ("host", "none"):
        raise PipelineError(f"`{key}` is {value!r}", 'give "host" or "none"')
    return str(value)


def _policy(key: str, value: object) -> Policy:
    if not isinstance(value, Policy):
        hint = "give a policy, as sp.none() or sp.ttl(...); several with sp.compose(...)"
        raise PipelineError(f"`{key}` is {kind(value)}", hint)
    return value


def _condition(key: str, value: object) -> When:
    if not isinstance(value, When):
        raise PipelineError(f"`{key}` is {kind(value)}", "give sp.when(...)")
    return value


def _count(key: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 2**32:
        raise PipelineError(f"`{key}` is {value!r}", "give a number from 0 on")
    return value


def _flag(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise PipelineError(f"`{key}` is {value!r}", "give True or False")
    return value
