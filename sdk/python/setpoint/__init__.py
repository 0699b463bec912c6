"""Pipelines for Setpoint, written in Python.

    import setpoint as sp

    @sp.pipeline("ci")
    def ci():
        fetch = sp.sh("cargo fetch", inputs=["Cargo.*"])
        return fetch.fork(sp.sh("cargo clippy"), sp.sh("cargo test"))
"""

from ._cache import Policy, compose, forever, none, on_change, predicate, ttl
from ._errors import PipelineError
from ._steps import Barrier, Group, Step, group, optional, sh, when
from ._targets import pipeline, target
from ._values import env, read, secret

__all__ = [
    "Barrier", "Group", "PipelineError", "Policy", "Step", "compose", "env", "forever", "group", "none", "on_change",
    "optional", "pipeline", "predicate", "read", "secret", "sh", "target", "ttl", "when",
]
