from typing import Any, Callable, List

import setpoint as sp
from setpoint import _emit, _targets

from .support import Case, render, step


class Targets(Case):
    def setUp(self) -> None:
        declared = _targets.declared_in(_targets.Registry())
        self.registry = declared.__enter__()
        self.addCleanup(declared.__exit__, None, None, None)

    def emit(self, name: str = "ci") -> List[Any]:
        pipeline = self.registry.pipeline(name)
        steps: List[Any] = _emit.emit(pipeline, self.registry.build(pipeline))["steps"]
        return steps

    def test_each_is_built_once(self) -> None:
        calls: List[str] = []

        @sp.target()
        def base() -> sp.Step:
            calls.append("base")
            return sp.sh("base")

        @sp.target
        def left(base: sp.Step) -> sp.Step:
            return base.sh("left")

        @sp.target()
        def both(base: sp.Step, left: sp.Step) -> Any:
            return base.sh("right"), left

        @sp.pipeline("ci")
        def ci(both: Any, base: sp.Step, unused: int = 3) -> sp.Step:
            return base.sh("last", needs=both)

        self.assertEqual([one["name"] for one in self.emit()], ["base", "left", "right", "last"])
        self.assertEqual(calls, ["base"])
        self.emit()
        self.assertEqual(calls, ["base", "base"])

    def test_only_the_asked_pipeline_is_called(self) -> None:
        @sp.pipeline("other")
        def other() -> sp.Step:
            raise AssertionError

        @sp.pipeline("ci")
        def ci() -> sp.Step:
            return sp.sh("a")

        self.assertEqual(len(self.emit()), 1)

    def test_cycles(self) -> None:
        @sp.target()
        def a(b: sp.Step) -> sp.Step:
            return b

        @sp.target()
        def b(a: sp.Step) -> sp.Step:
            return a

        @sp.pipeline("ci")
        def ci(b: sp.Step) -> sp.Step:
            return b

        self.refused("wait for each other: b -> a -> b", self.emit)

    def test_unknown_parameters(self) -> None:
        @sp.target()
        def fetch() -> sp.Step:
            return sp.sh("a")

        @sp.pipeline("ci")
        def ci(fecth: sp.Step) -> sp.Step:
            return fecth

        @sp.pipeline("many")
        def many(*fetch: sp.Step) -> Any:
            return fetch

        self.refused("`fecth`, and there is no target of this name; did you mean `fetch`?", self.emit)
        self.refused("`*fetch: ", self.emit, "many")

    def test_what_targets_return(self) -> None:
        @sp.target()
        def nothing() -> None:
            return None

        @sp.pipeline("ci")
        def ci(nothing: Any) -> Any:
            return nothing

        self.refused("target `nothing` returned None", self.emit)

    def test_duplicates(self) -> None:
        def declare(kind: Callable[[], Callable[[Any], Any]]) -> None:
            def same() -> sp.Step:
                return sp.sh("a")

            kind()(same)

        for kind, what in [(sp.target, "two targets `same`"), (lambda: sp.pipeline("x"), "two pipelines `x`")]:
            with self.subTest(what):
                declare(kind)
                error = self.refused(what, declare, kind)
                self.assertEqual(str(error).count("test_targets.py:"), 2)

    def test_unknown_pipeline(self) -> None:
        self.refused("declare one", self.registry.pipeline, "ci")
        sp.pipeline("release")(lambda: sp.sh("a"))
        self.refused("did you mean `release`?", self.registry.pipeline, "relaese")
        self.refused("the pipelines are: `release`", self.registry.pipeline, "xyz")


class Pipelines(Case):
    def test_what_they_return(self) -> None:
        a, b = sp.sh("a"), sp.sh("b")
        for value in [sp.group(a, b), sp.group(a, b).wait(), [a, sp.group(b)], (a, [b]), iter([a, b])]:
            self.assertEqual(len(render(lambda: value)["steps"]), 2)
        self.assertEqual(len(render(lambda: a)["steps"]), 1)
        for wrong in [None, "a", 3, [], [None], sp.group()]:
            self.refused("pipeline `ci` returned", render, lambda: wrong)

    def test_values_are_laid_under(self) -> None:
        a = sp.sh("a", env={"B": "own"}, user="me")
        found = render(
            lambda: a.sh("b", network="host", workdir="/w"),
            image="debian",
            env={"A": "${x}", "B": "pipeline"},
            user="you",
            network="none",
            workdir="w",
            timeout=60,
        )
        self.assertEqual(list(found), ["setpoint_ir", "name", "timeout_ms", "steps"])
        env = {"A": "$${x}", "B": "pipeline"}
        self.assertEqual(found["timeout_ms"], 60_000)
        self.assertEqual(
            found["steps"],
            [
                {
                    "name": "a",
                    "run": "a",
                    "image": "debian",
                    "env": {**env, "B": "own"},
                    "workdir": "w",
                    "user": "me",
                    "network": "none",
                },
                {"name": "b", "run": "b", "from": "a", "env": env, "workdir": "/w", "user": "you"},
            ],
        )

    def test_host_paths(self) -> None:
        paths = {"host_paths": ["~/.cargo"]}
        self.assertEqual(step(sp.sh("a"), **paths)["host_paths"], ["~/.cargo"])
        self.assertNotIn("host_paths", step(sp.sh("a", host_paths=[]), **paths))
        self.assertNotIn("host_paths", step(sp.sh("a", image="debian"), **paths))
        self.assertNotIn("host_paths", step(sp.sh("a").sh("b"), **paths))
        self.refused("pipeline's image", step, sp.sh("a", host_paths=["x"]), image="debian")
        self.refused("`host_paths` is for the host", render, lambda: None, image="debian", **paths)

    def test_refused(self) -> None:
        self.refused("not a name for a pipeline", sp.pipeline, "C I")
        self.refused("has no name", sp.pipeline, lambda: None)
        self.refused("pipeline `ci`: `timeout` is not a duration", render, lambda: None, timeout="x")
        self.refused("pipeline `ci`: `network`", render, lambda: None, network="x")
