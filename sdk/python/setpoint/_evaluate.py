"""Evaluates pipeline files for the setpoint binary: a request on standard input, an answer on descriptor 3."""

from __future__ import annotations

import json
import os
import sys
import traceback
import types
from typing import Any, Dict, List, Optional, Sequence

from ._emit import emit
from ._errors import PipelineError, is_own
from ._targets import Pipeline, Registry, UnknownPipeline, declared_in
from ._values import Provider, is_below, provided_by

PROTOCOL = 1
ANSWER = 3
# How many frames of a traceback are shown at either end.
FRAMES = 10


def load(files: Sequence[str], root: str) -> None:
    """Runs the files, each as a module of its own, with `.setpoint` and their folders to import from."""
    paths = [os.path.normpath(os.path.join(root, file)) for file in files]
    folders = [os.path.join(root, ".setpoint"), *map(os.path.dirname, paths)]
    sys.path[:0] = [folder for folder in dict.fromkeys(folders) if folder not in sys.path]
    for number, path in enumerate(paths):
        stem = os.path.splitext(os.path.basename(path))[0]
        module = types.ModuleType(f"_setpoint_{number}_{stem}")
        module.__file__ = path
        try:
            with open(path, "rb") as file:
                source = file.read()
        except OSError as error:
            hint = "give the path of a pipeline file"
            raise PipelineError(f"`{files[number]}` cannot be read: {error.strerror}", hint) from None
        code = compile(source, path, "exec", dont_inherit=True)
        sys.modules[module.__name__] = module
        exec(code, module.__dict__)


def evaluate(request: Dict[str, Any]) -> Dict[str, Any]:
    """The answer to a request."""
    root = os.path.abspath(request["root"])
    provider = Provider(root, request["variables"])
    registry = Registry()
    ir: Optional[Dict[str, Any]] = None
    try:
        with declared_in(registry), provided_by(provider):
            provider.watch()
            load(request["files"], root)
            if request["pipeline"] is not None:
                pipeline = registry.pipeline(request["pipeline"])
                ir = emit(pipeline, registry.build(pipeline))
    except (Exception, SystemExit) as error:
        return {**_failure(error, root), **_depended_on(registry, provider, ir, root)}
    return {"protocol": PROTOCOL, "ok": True, **_depended_on(registry, provider, ir, root)}


def _depended_on(
    registry: Registry, provider: Provider, ir: Optional[Dict[str, Any]], root: str
) -> Dict[str, Any]:
    """What an evaluation came to, and what it depended on: also if it failed, for want of a variable perhaps."""
    steps = ir["steps"] if ir is not None else []
    policies = [policy for step in steps for policy in step.get("cache", [])]
    return {
        "pipelines": [_listed(registry.pipelines[name], root) for name in sorted(registry.pipelines)],
        "ir": ir,
        "imports": _imports(root),
        "reads": sorted(provider.reads),
        "variables": {name: provider.asked[name] for name in sorted(provider.asked)},
        "missing": sorted(name for name, value in provider.asked.items() if value is None),
        "predicates": any("predicate" in policy for policy in policies),
    }


def _listed(pipeline: Pipeline, root: str) -> Dict[str, Any]:
    file = _shown(pipeline.file, root)
    return {"name": pipeline.name, "file": file, "line": pipeline.line, "doc": pipeline.doc}


def _shown(path: str, root: str) -> str:
    """The path from the root, if it is below it."""
    return os.path.relpath(path, root).replace(os.sep, "/") if is_below(path, root) else path


def _imports(root: str) -> List[str]:
    """The files of the project that were imported, without what is installed inside of it."""
    files = (getattr(module, "__file__", None) for module in list(sys.modules.values()))
    paths = {os.path.abspath(file) for file in files if isinstance(file, str)}
    return sorted(path for path in paths if is_below(path, root) and not is_own(path)
                  and "site-packages" not in path.split(os.sep))


def _failure(error: BaseException, root: str) -> Dict[str, Any]:
    step: Optional[str] = None
    if isinstance(error, UnknownPipeline):
        kind, message = "unknown-pipeline", str(error)
    elif isinstance(error, PipelineError):
        kind, message, step = "pipeline", str(error), error.step
    elif isinstance(error, SyntaxError) and is_below(os.path.abspath(error.filename or ""), root):
        file = _shown(os.path.abspath(error.filename or ""), root)
        kind, message = "syntax", f"{file}:{error.lineno}: {error.msg}"
    elif isinstance(error, SystemExit):
        kind, message = "exception", f"the file ended Python: SystemExit({error.code!r})"
    else:
        kind, message = "exception", "".join(traceback.format_exception_only(type(error), error)).strip()
    trace = trimmed(error, root)
    return {"protocol": PROTOCOL, "ok": False, "kind": kind, "message": message, "step": step, "trace": trace}


def trimmed(error: BaseException, root: str) -> str:
    """The traceback with the frames of files below the root only, causes first."""
    chain: List[BaseException] = []
    at: Optional[BaseException] = error
    while at is not None and at not in chain:
        chain.append(at)
        at = at.__cause__ or (None if at.__suppress_context__ else at.__context__)
    return "\n".join(_trimmed_one(part, root) for part in reversed(chain))


def _is_theirs(path: str, root: str) -> bool:
    """Whether a source file is one of the project's."""
    return is_below(os.path.abspath(path), root) and not is_own(path)


def _frame(frame: traceback.FrameSummary, root: str) -> str:
    """A frame, as Python shows it."""
    file = _shown(os.path.abspath(frame.filename), root)
    line = f"    {frame.line}\n" if frame.line else ""
    return f'  File "{file}", line {frame.lineno}, in {frame.name}\n{line}'


def _trimmed_one(error: BaseException, root: str) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    lines = [_frame(frame, root) for frame in frames if _is_theirs(frame.filename, root)]
    # A function that calls itself without end would fill the screen.
    if len(lines) > 2 * FRAMES:
        lines[FRAMES:-FRAMES] = [f"  ... {len(lines) - 2 * FRAMES} more frames\n"]
    if isinstance(error, PipelineError):
        # Without the name of its class, which may be spelt with its module.
        said = [f"PipelineError: {error}\n"]
    else:
        said = traceback.format_exception_only(type(error), error)
    return "".join([*lines, *said]).replace(f'File "{root.rstrip(os.sep)}{os.sep}', 'File "')


def _checked(text: bytes) -> Dict[str, Any]:
    """The request, which has to be of this protocol."""
    request = json.loads(text)
    if not isinstance(request, dict) or request.get("protocol") != PROTOCOL:
        raise ValueError(f"this is not a request of protocol {PROTOCOL}")
    shape = {"files": list, "root": str, "variables": dict}
    for key, kind in shape.items():
        if not isinstance(request.get(key), kind):
            raise ValueError(f"the request has no `{key}`")
    if not isinstance(request.setdefault("pipeline", None), (str, type(None))):
        raise ValueError("the request's `pipeline` is not a text")
    return request


def main(argv: Optional[Sequence[str]] = None) -> int:
    """Reads a request and writes its answer. Ends with 0 if there is an answer, whatever it says."""
    sys.dont_write_bytecode = True
    try:
        answer = os.fdopen(ANSWER, "wb")
        os.set_inheritable(ANSWER, False)
    except OSError as error:
        print(f"setpoint: descriptor {ANSWER} is not open for the answer: {error.strerror}", file=sys.stderr)
        return 2
    with answer:
        try:
            request = _checked(sys.stdin.buffer.read())
        except ValueError as error:
            print(f"setpoint: {error}", file=sys.stderr)
            return 2
        # What the files print, and what the programs print that they start, goes to standard error.
        sys.stdout = sys.stderr
        os.dup2(2, 1)
        text = json.dumps(evaluate(request), ensure_ascii=False)
        answer.write(text.encode("utf-8", "replace") + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
