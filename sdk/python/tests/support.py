"""What the tests share."""

from __future__ import annotations

import os
import unittest
from typing import Any, Callable, Dict, Optional

from setpoint import _emit, _targets, _values
from setpoint import PipelineError


def render(
    function: Callable[[], Any],
    variables: Optional[Dict[str, str]] = None,
    **values: Any,
) -> Dict[str, Any]:
    """The IR of a pipeline `ci` with this function."""
    with _values.provided_by(_values.Provider(os.getcwd(), variables or {})):
        with _targets.declared_in(_targets.Registry()) as registry:
            _targets.pipeline("ci", **values)(function)
            pipeline = registry.pipeline("ci")
            return _emit.emit(pipeline, registry.build(pipeline))


def step(*steps: Any, **values: Any) -> Dict[str, Any]:
    """The last step of the IR of a pipeline that returns these steps."""
    found: Dict[str, Any] = render(lambda: steps, **values)["steps"][-1]
    return found


class Case(unittest.TestCase):
    """A test with a check for mistakes."""

    def refused(self, what: str, function: Callable[..., Any], *args: Any, **kwargs: Any) -> PipelineError:
        """The call is refused with a message in which this text stands."""
        with self.assertRaises(PipelineError) as caught:
            function(*args, **kwargs)
        self.assertIn(what, str(caught.exception))
        self.assertTrue(caught.exception.hint)
        return caught.exception
