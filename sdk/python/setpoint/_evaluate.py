"""The side of Setpoint's binary: one request in, one answer out, both JSON."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Any, Dict, List

from . import _targets
from ._errors import PipelineError
from ._values import asked

PROTOCOL = 1


def load(files: List[str], root: Path) -> None:
    """Loads the files that declare pipelines."""
    asked.root = root
    folders = {str((root / file).parent) for file in files}
    sys.path[:0] = sorted(folders)
    for number, file in enumerate(files):
        spec = importlib.util.spec_from_file_location(f"setpoint_pipelines_{number}", root / file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)


def _own(path: str, root: Path) -> bool:
    return path.startswith(str(root) + os.sep)


def _imports(root: Path, files: List[str]) -> List[str]:
    found = {str(root / file) for file in files}
    for module in list(sys.modules.values()):
        file = getattr(module, "__file__", None)
        if file and _own(os.path.abspath(file), root):
            found.add(os.path.abspath(file))
    return sorted(found)


def _trace(error: BaseException, root: Path) -> str:
    """The traceback, with the frames of the project's own files only."""
    lines: List[str] = []
    shown = traceback.TracebackException.from_exception(error)
    cause = error.__cause__
    if cause is not None:
        shown = traceback.TracebackException.from_exception(cause)
    kept = [frame for frame in shown.stack if _own(os.path.abspath(frame.filename), root)]
    for frame in kept:
        lines.append(f'  File "{os.path.relpath(frame.filename, root)}", line {frame.lineno}, in {frame.name}')
        if frame.line:
            lines.append(f"    {frame.line}")
    for line in shown.format_exception_only():
        lines.append(line.rstrip("\n").replace(str(root) + os.sep, ""))
    return "\n".join(lines)


def answer(request: Dict[str, Any]) -> Dict[str, Any]:
    """What comes of a request."""
    root = Path(request["root"])
    files: List[str] = request["files"]
    asked.given = dict(request["variables"])
    kind = "exception"
    try:
        load(files, root)
        name = request.get("pipeline")
        kind = "pipeline"
        if name is not None and name not in _targets.pipelines:
            kind = "unknown-pipeline"
        ir = None if name is None else _targets.evaluate(name)
    except PipelineError as error:
        failed = {"message": str(error), "step": error.step, "trace": _trace(error, root)}
        return _told({"ok": False, "kind": "pipeline" if kind == "exception" else kind, **failed}, root, files)
    except SyntaxError as error:
        failed = {"message": error.msg or "invalid syntax", "step": None, "trace": _trace(error, root)}
        return _told({"ok": False, "kind": "syntax", **failed}, root, files)
    except Exception as error:  # pylint: disable=broad-except
        failed = {"message": f"{type(error).__name__}: {error}", "step": None, "trace": _trace(error, root)}
        return _told({"ok": False, "kind": "exception", **failed}, root, files)
    return _told({"ok": True, "ir": ir}, root, files)


def _told(told: Dict[str, Any], root: Path, files: List[str]) -> Dict[str, Any]:
    listed = [
        {"name": each.name, "file": os.path.relpath(each.file, root), "line": each.line,
         "doc": (each.call.__doc__ or "").strip().split("\n")[0]}
        for each in _targets.pipelines.values()
    ]
    return {
        "protocol": PROTOCOL, **told, "pipelines": listed, "imports": _imports(root, files), "reads": asked.reads,
        "variables": asked.variables, "missing": asked.missing, "predicates": _cache_has_predicates(told.get("ir")),
    }


def _cache_has_predicates(ir: Any) -> bool:
    steps = (ir or {}).get("steps", ())
    return any(isinstance(part, dict) and "predicate" in part for step in steps for part in step.get("cache", ()))


def main(exchange: str) -> None:
    """Reads the request in a folder, and writes the answer beside it."""
    folder = Path(exchange)
    request = json.loads((folder / "request.json").read_text(encoding="utf-8"))
    # What the user's code prints is for people.
    sys.stdout = sys.stderr
    (folder / "answer.json").write_text(json.dumps(answer(request)), encoding="utf-8")
