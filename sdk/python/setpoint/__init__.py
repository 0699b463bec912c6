"""Pipelines for setpoint, written in Python.

    import setpoint as sp

    @sp.pipeline("ci")
    def ci():
        return sp.sh("cargo build").fork(sp.sh("cargo test"), sp.sh("cargo doc"))
"""

from ._cache import OptionalInput, Policy, compose, forever, none, on_change, optional, predicate, ttl
from ._errors import PipelineError
from ._steps import Barrier, Group, Step, group, sh
from ._targets import pipeline, target
from ._values import Template, When, env, read, secret, when

__all__ = [
    "Barrier",
    "Group",
    "OptionalInput",
    "PipelineError",
    "Policy",
    "Step",
    "Template",
    "When",
    "compose",
    "env",
    "forever",
    "group",
    "none",
    "on_change",
    "optional",
    "pipeline",
    "predicate",
    "read",
    "secret",
    "sh",
    "target",
    "ttl",
    "when",
]

__version__ = "0.1.0"
