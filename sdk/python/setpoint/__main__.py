"""``python3 -m setpoint render FILE... PIPELINE`` prints a pipeline."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from . import _targets
from ._errors import PipelineError
from ._evaluate import load


def main() -> int:
    """Prints the pipeline that was asked for."""
    words = sys.argv[1:]
    if len(words) < 3 or words[0] != "render":
        print("usage: python3 -m setpoint render FILE... PIPELINE", file=sys.stderr)
        return 2
    try:
        load([str(Path(file).resolve()) for file in words[1:-1]], Path.cwd())
        print(json.dumps(_targets.evaluate(words[-1]), indent=2))
    except PipelineError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


sys.exit(main())
