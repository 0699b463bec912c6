"""Values that steps are made of: texts, durations, secrets, conditions, variables and files."""

from __future__ import annotations

import datetime
import os
import re
import sys
from contextlib import contextmanager
from typing import Dict, Iterator, List, Mapping, Optional, Sequence, Set, Tuple, Union, overload

from ._errors import PipelineError, did_you_mean, kind

NAME = re.compile(r"[a-z][a-z0-9-]{0,62}")
NAME_RULE = "use a letter a-z, then at most 62 of a-z, 0-9 and `-`"

Texts = Union[str, Sequence[str]]
Duration = Union[str, int, float, datetime.timedelta]

_UNITS = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_DURATION = re.compile(r"(\d+)\s*(ms|s|m|h|d)", re.ASCII)


def text(key: str, value: object) -> str:
    """The value, which has to be a text that is not empty and that JSON can hold."""
    if not isinstance(value, str):
        raise PipelineError(f"`{key}` is {kind(value)}", "give a str")
    if not value.strip():
        raise PipelineError(f"`{key}` is empty", "leave it out, or say something")
    return sound(key, value)


def sound(key: str, value: str) -> str:
    """The text, which may hold neither NUL nor half a character."""
    if "\0" in value:
        raise PipelineError(f"`{key}` holds a NUL character", "take it out")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise PipelineError(f"`{key}` is not Unicode text: {value!r}", "give text that UTF-8 can hold") from None
    return str(value)


def texts(key: str, value: object) -> List[str]:
    """The texts: one, or a list or tuple of them."""
    if isinstance(value, str):
        return [text(key, value)]
    if not isinstance(value, (list, tuple)):
        raise PipelineError(f"`{key}` is {kind(value)}", "give a str, or a list of str")
    return [text(key, item) for item in value]


def name(key: str, value: object) -> str:
    """The value, which has to be a name of a step or pipeline."""
    if not isinstance(value, str) or NAME.fullmatch(value) is None:
        raise PipelineError(f"{value!r} is not a name for a {key}", NAME_RULE)
    return str(value)


def milliseconds(key: str, value: object) -> int:
    """A duration in milliseconds: ``"1h 30m"``, seconds, or a timedelta."""
    hint = 'write "90s", "10m", "1h 30m" or "1d", seconds as a number, or a timedelta'
    wrong = PipelineError(f"`{key}` is not a duration: {value!r}", hint)
    if isinstance(value, str):
        words = value.strip()
        if not re.fullmatch(rf"{_DURATION.pattern}(\s*{_DURATION.pattern})*", words, re.ASCII):
            raise wrong
        ms = sum(int(number) * _UNITS[unit] for number, unit in _DURATION.findall(words))
    elif isinstance(value, datetime.timedelta):
        ms = value // datetime.timedelta(milliseconds=1)
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            ms = round(value * 1000)
        except (ValueError, OverflowError):
            raise wrong from None
    else:
        raise wrong
    if not 1 <= ms < 2**64:
        raise PipelineError(f"`{key}` is out of range: {value!r}", "give at least a millisecond")
    return ms


class Template:
    """A text with secrets in it, as the value of an environment variable. Put together with ``+``."""

    def __init__(self, parts: Sequence[Union[str, _Secret]]) -> None:
        self._parts = list(parts)

    def __add__(self, other: Union[str, Template]) -> Template:
        if isinstance(other, Template):
            return Template([*self._parts, *other._parts])
        return Template([*self._parts, other]) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: str) -> Template:
        return Template([other, *self._parts]) if isinstance(other, str) else NotImplemented

    def __str__(self) -> str:
        raise PipelineError("a secret cannot become a str", 'put it together with `+`: sp.secret("a") + "/x"')

    def __format__(self, spec: str) -> str:
        return str(self)

    def __repr__(self) -> str:
        return f"Template({self._parts!r})"

    def source(self, key: str) -> str:
        """The text as pipelines write it."""
        written = ""
        literal = ""
        for part in self._parts:
            if isinstance(part, str):
                literal += part
                continue
            if literal.endswith("$"):
                hint = "make the whole text the secret, or put something between"
                raise PipelineError(f"`{key}` has a `$` right before a secret, which cannot be written", hint)
            written += escape(literal) + f"${{secret.{part.name}}}"
            literal = ""
        return sound(key, written + escape(literal))


class _Secret:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return f"secret({self.name!r})"


def secret(name: str) -> Template:
    """The value of a secret, for ``env``. It stands in no result and in no log."""
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        raise PipelineError(f"{name!r} is not a name for a secret", NAME_RULE)
    return Template([_Secret(name)])


def escape(literal: str) -> str:
    """A literal text as the value of an environment variable."""
    return literal.replace("${", "$${")


EnvValues = Mapping[str, Union[str, Template]]


def environment(value: object) -> Dict[str, str]:
    """The variables as pipelines write them."""
    if not isinstance(value, Mapping):
        raise PipelineError(f"`env` is {kind(value)}", "give a dict of names and values")
    return {variable("env", name): _env_value(name, given) for name, given in value.items()}


def _env_value(name: str, value: object) -> str:
    if isinstance(value, Template):
        return value.source(f"env.{name}")
    if not isinstance(value, str):
        hint = "give a str, or sp.secret(...)"
        raise PipelineError(f"`env.{name}` is {kind(value)}", hint)
    return sound(f"env.{name}", escape(value))


def variable(key: str, name: object) -> str:
    """The name of a variable."""
    checked = text(key, name)
    if "=" in checked:
        raise PipelineError(f"`{key}`: {checked!r} is not a name for a variable", "leave the `=` out")
    return checked


class When:
    """When a step is part of a run."""

    def __init__(self, branch: List[str], tag: List[str], event: List[str], env: Dict[str, str]) -> None:
        self.branch = branch
        self.tag = tag
        self.event = event
        self.env = env


def when(
    *,
    branch: Texts = (),
    tag: Texts = (),
    event: Texts = (),
    env: Optional[Mapping[str, str]] = None,
) -> When:
    """When a step is part of a run: of each list one pattern has to fit, of ``env`` every one."""
    if not isinstance(env, (Mapping, type(None))):
        raise PipelineError(f"`when.env` is {kind(env)}", "give a dict of names and patterns")
    variables = {variable("when.env", key): sound(f"when.env.{key}", _pattern(key, value))
                 for key, value in (env or {}).items()}
    return When(texts("when.branch", branch), texts("when.tag", tag), texts("when.event", event), variables)


def _pattern(key: str, value: object) -> str:
    if not isinstance(value, str):
        raise PipelineError(f"`when.env.{key}` is {kind(value)}", "give a pattern as a str")
    return value


# The events of the interpreter that tell of a file or folder.
_READING = frozenset({"open", "os.listdir", "os.scandir"})
# What lies in folders of these names is not the project's own.
_NOT_THEIRS = frozenset({"__pycache__", "site-packages"})


class Provider:
    """Where variables and files come from, and which were asked for.

    Without ``variables`` they are those of this process; without ``root`` files are looked up from the
    folder that this process is in.
    """

    def __init__(self, root: Optional[str] = None, variables: Optional[Mapping[str, str]] = None) -> None:
        self._root = root
        self._variables = variables
        self.asked: Dict[str, Optional[str]] = {}
        self.reads: Set[str] = set()

    def watch(self) -> None:
        """From now on notes every file of the project that is opened and every folder that is listed, by whatever
        code, for as long as this provider is the one that is asked."""
        root = os.path.realpath(self._root or os.getcwd())

        def heard(event: str, args: Tuple[object, ...]) -> None:
            if event in _READING and _provider is self:
                path = args[0] if args and args[0] is not None else "."
                if isinstance(path, (str, bytes, os.PathLike)):
                    full = os.path.abspath(os.fsdecode(path))
                    parts = full.split(os.sep)
                    if (full == root or is_below(full, root)) and not _NOT_THEIRS.intersection(parts):
                        self.reads.add(full)

        sys.addaudithook(heard)

    def variable(self, name: str) -> Optional[str]:
        """The value of a variable, which is noted."""
        known = os.environ if self._variables is None else self._variables
        value = known.get(name)
        self.asked[name] = value
        return value

    def file(self, path: str) -> str:
        """The text of a file, which is noted, whether it is there or not."""
        root = os.path.abspath(self._root or os.getcwd())
        full = os.path.normpath(os.path.join(root, path))
        if not is_below(os.path.realpath(full), os.path.realpath(root)):
            raise PipelineError(f"`{path}` is not in the project", "read files of the project only")
        self.reads.add(full)
        try:
            with open(full, "rb") as file:
                return file.read().decode("utf-8")
        except UnicodeDecodeError:
            raise PipelineError(f"`{path}` is not UTF-8 text", "read text files only") from None
        except OSError as error:
            here = os.path.dirname(full)
            names = os.listdir(here) if os.path.isdir(here) else []
            hint = did_you_mean(os.path.basename(full), names, "give its path from the root of the project")
            raise PipelineError(f"`{path}` cannot be read: {error.strerror}", hint) from None


def is_below(path: str, root: str) -> bool:
    """Whether a path is in a folder; both absolute."""
    return path.startswith(root.rstrip(os.sep) + os.sep)


_provider = Provider()


@contextmanager
def provided_by(provider: Provider) -> Iterator[Provider]:
    """Variables and files come from this provider inside of the block."""
    global _provider
    before, _provider = _provider, provider
    try:
        yield provider
    finally:
        _provider = before


@overload
def env(name: str, default: None = None) -> Optional[str]: ...
@overload
def env(name: str, default: str) -> str: ...
def env(name: str, default: Optional[str] = None) -> Optional[str]:
    """The value of a variable of the caller. The pipeline is evaluated again when it changes."""
    value = _provider.variable(variable("sp.env", name))
    return default if value is None else value


def read(path: Union[str, os.PathLike[str]]) -> str:
    """The text of a file of the project. The pipeline is evaluated again when it changes."""
    return _provider.file(text("sp.read", os.fspath(path)))
