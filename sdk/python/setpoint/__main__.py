"""``python3 -m setpoint render FILE... PIPELINE`` prints a pipeline in the form that setpoint runs."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from typing import Sequence

from ._emit import emit
from ._errors import PipelineError
from ._evaluate import load, trimmed
from ._targets import Registry, declared_in

USAGE = "usage: python3 -m setpoint render FILE... PIPELINE"


def main(argv: Sequence[str]) -> int:
    """Renders a pipeline; ends with 1 if it is wrong, and with 2 if the arguments are."""
    if len(argv) < 3 or argv[0] != "render":
        print(USAGE, file=sys.stderr)
        return 2
    sys.dont_write_bytecode = True
    root = os.getcwd()
    try:
        with contextlib.redirect_stdout(sys.stderr), declared_in(Registry()) as registry:
            load(argv[1:-1], root)
            pipeline = registry.pipeline(argv[-1])
            ir = emit(pipeline, registry.build(pipeline))
    except PipelineError as error:
        print(f"setpoint: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        print(trimmed(error, root), end="", file=sys.stderr)
        return 1
    text = json.dumps(ir, ensure_ascii=False, indent=2)
    sys.stdout.buffer.write(text.encode("utf-8") + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
