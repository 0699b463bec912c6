import datetime
from typing import Any, Dict, List, Tuple

import setpoint as sp

from .support import Case, render, step


class Names(Case):
    def test_made_from_the_command(self) -> None:
        for command, name in {
            "cargo test --release": "cargo-test-release",
            "./report.sh": "report-sh",
            "\n  make x \n make y": "make-x",
            "7z a b": "step-7z-a-b",
            "::": "step",
            "é": "step",
            "x" * 80: "x" * 63,
        }.items():
            with self.subTest(command):
                self.assertEqual(step(sp.sh(command))["name"], name)
        self.assertEqual(step(sp.sh(["cargo", "test"]))["name"], "cargo-test")

    def test_made_names_are_unique(self) -> None:
        long = "x" * 80
        steps = [sp.sh("make"), sp.sh("make"), sp.sh("true", name="make-2"), sp.sh("make"), sp.sh(long), sp.sh(long)]
        names = [found["name"] for found in render(lambda: steps)["steps"]]
        self.assertEqual(sorted(names), ["make", "make-2", "make-3", "make-4", "x" * 61 + "-2", "x" * 63])

    def test_made_names_follow_the_order_of_making(self) -> None:
        first, second = sp.sh("make", env={"N": "1"}), sp.sh("make", env={"N": "2"})
        found = render(lambda: [second, first])["steps"]
        self.assertEqual([(one["name"], one["env"]["N"]) for one in found], [("make", "1"), ("make-2", "2")])

    def test_refused(self) -> None:
        for name in ["", "A", "1a", "a_b", "a" * 64, "a\n", 3]:
            with self.subTest(name):
                self.refused("a letter a-z", sp.sh, "true", name=name)

    def test_two_of_one_name(self) -> None:
        error = self.refused("two steps `a`", step, sp.sh("x", name="a"), sp.sh("y", name="a"))
        self.assertEqual(str(error).count("test_steps.py:"), 2)


class Keywords(Case):
    def test_all(self) -> None:
        base = sp.sh("true", name="base")
        found = step(
            sp.sh(
                ("cc", ""),
                name="x",
                image="debian",
                needs="base",
                after=[base],
                take=(base, "base"),
                inputs=[],
                outputs="out/**",
                artifacts="a",
                cache_dirs=["/c"],
                services=["db", "cache", "db"],
                env={"B": "", "A": "é"},
                timeout=0.5,
                retries=0,
                workdir="w",
                user="u",
                network="none",
                git=True,
                when=sp.when(event=["push"]),
            ),
            base,
        )
        self.assertEqual(
            list(found.items()),
            [
                ("name", "x"),
                ("run", ["cc", ""]),
                ("image", "debian"),
                ("needs", ["base"]),
                ("after", ["base"]),
                ("take", ["base", "base"]),
                ("inputs", []),
                ("outputs", ["out/**"]),
                ("artifacts", ["a"]),
                ("cache_dirs", ["/c"]),
                ("services", ["cache", "db"]),
                ("env", {"A": "é", "B": ""}),
                ("timeout_ms", 500),
                ("workdir", "w"),
                ("user", "u"),
                ("network", "none"),
                ("git", True),
                ("when", {"event": ["push"]}),
            ],
        )
        self.assertEqual(list(found["env"]), ["A", "B"])

    def test_refused(self) -> None:
        mistakes: List[Tuple[str, Dict[str, Any]]] = [
            ("did you mean `image`", {"imgae": "x"}),
            ("`image` is empty", {"image": " "}),
            ("`image` is a value of type int", {"image": 3}),
            ("NUL", {"user": "a\0"}),
            ("not Unicode", {"user": "\udc80"}),
            ("`inputs` is a value of type dict", {"inputs": {}}),
            ("`outputs` is a value of type int", {"outputs": [1]}),
            ("`env.A` is a value of type int", {"env": {"A": 1}}),
            ("not a name for a variable", {"env": {"A=B": "1"}}),
            ("`env` is a value of type list", {"env": ["A"]}),
            ("`retries` is True", {"retries": True}),
            ("`retries` is -1", {"retries": -1}),
            ("`git` is 1", {"git": 1}),
            ("`network` is 'bridge'", {"network": "bridge"}),
            ("`when` is a value of type str", {"when": "main"}),
            ("`cache` is a value of type str", {"cache": "none"}),
            ("several with sp.compose", {"cache": [sp.none()]}),
            ("host's own system only", {"image": "a", "host_paths": ["b"]}),
            ("not a name for a step", {"needs": "A B"}),
            ("`needs` got a value of type int", {"needs": [1]}),
            ("got a barrier", {"after": sp.sh("a").wait()}),
        ]
        for what, keywords in mistakes:
            with self.subTest(what):
                error = self.refused(what, sp.sh, "make x", **keywords)
                self.assertEqual(error.step, "make-x")
                self.assertIn("step `make-x`: ", str(error))

    def test_commands_refused(self) -> None:
        for command in ["", " \n", [], [""], ["a", 1], 3, None, "a\0", b"true"]:
            with self.subTest(command):
                self.refused("", sp.sh, command)

    def test_durations(self) -> None:
        good: List[Tuple[Any, int]] = [
            ("10m", 600_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            (" 2 d ", 172_800_000),
            (3, 3000),
            (1.5, 1500),
            (datetime.timedelta(minutes=1), 60_000),
        ]
        for given, ms in good:
            with self.subTest(given):
                self.assertEqual(step(sp.sh("a", timeout=given))["timeout_ms"], ms)
        for wrong in ["", "10", "m", "1w", "-1s", "1.5h", "1m,2s", "٣s", True, [], float("nan"), float("inf")]:
            with self.subTest(wrong):
                self.refused("not a duration", sp.sh, "a", timeout=wrong)
        for wrong in [0, -1, 0.0001, "0s", 1e30, datetime.timedelta(0)]:
            with self.subTest(wrong):
                self.refused("out of range", sp.sh, "a", timeout=wrong)

    def test_when(self) -> None:
        found = step(sp.sh("a", when=sp.when(branch="main", tag=["v*"], env={"B": "", "A": "1"})))
        self.assertEqual(found["when"], {"branch": ["main"], "tag": ["v*"], "env": {"A": "1", "B": ""}})
        self.assertNotIn("when", step(sp.sh("a", when=sp.when())))
        self.refused("`when.env` is a value of type str", sp.when, env="CI")
        self.refused("`when.env.A` is a value of type int", sp.when, env={"A": 1})


class Env(Case):
    def value(self, given: Any) -> str:
        found: str = step(sp.sh("a", env={"X": given}))["env"]["X"]
        return found

    def test_literals_are_escaped(self) -> None:
        self.assertEqual(self.value("${x} $y $${z}"), "$${x} $y $$${z}")
        self.assertEqual(self.value("${secret.a}"), "$${secret.a}")

    def test_secrets(self) -> None:
        a = sp.secret("a")
        self.assertEqual(self.value(a), "${secret.a}")
        self.assertEqual(self.value(a + "x"), "${secret.a}x")
        self.assertEqual(self.value("${" + a + "$" + "{" + sp.secret("b")), "$${${secret.a}$${${secret.b}")
        self.refused("right before a secret", self.value, "$" + a)
        for wrong in ("a}", "A", "a_b", "a.b", "", "a" * 64):
            self.refused("not a name for a secret", sp.secret, wrong)

    def test_a_secret_is_no_text(self) -> None:
        a = sp.secret("a")
        self.refused("cannot become a str", lambda: f"{a}")
        self.refused("cannot become a str", lambda: str(a))
        self.refused("`image` is a value of type Template", sp.sh, "a", image=a)
        with self.assertRaises(TypeError):
            a + 1  # type: ignore[operator]


class Edges(Case):
    def test_sh_starts_from_the_step(self) -> None:
        found = step(sp.sh("a").sh("b", env={"A": "1"}))
        self.assertEqual(found, {"name": "b", "run": "b", "from": "a", "env": {"A": "1"}})

    def test_two_bases(self) -> None:
        a = sp.sh("a")
        self.refused("two bases", a.sh, "b", image="debian")
        self.refused("two bases", a.fork, sp.sh("b", image="debian"))
        self.refused("give a function", a.fork, sp.sh("b").sh("c"))
        child = sp.sh("d")
        a.fork(child)
        self.refused("cannot start from `a` too", a.fork, child)

    def test_fork(self) -> None:
        a = sp.sh("a")
        b, d = a.fork(sp.sh("b"), lambda step: step.sh("c").sh("d"))
        found = {one["name"]: one.get("from") for one in render(lambda: (b, d))["steps"]}
        self.assertEqual(found, {"a": None, "b": "a", "c": "a", "d": "c"})
        self.refused("`fork` got a value of type str", a.fork, "b")
        self.refused("return its last step", a.fork, lambda step: None)

    def test_references(self) -> None:
        a, b = sp.sh("a"), sp.sh("b")
        found = step(sp.sh("c", needs=[sp.group(b, a), "a", b], take=(b, a)))
        self.assertEqual(found, {"name": "c", "run": "c", "needs": ["a", "b"], "take": ["b", "a"]})

    def test_reachable_only(self) -> None:
        a = sp.sh("a")
        a.sh("unused")
        last = sp.sh("e", needs=sp.sh("n"), after=sp.sh("f"), take=sp.sh("t")).sh("z", take=a)
        self.assertEqual([one["name"] for one in render(lambda: last)["steps"]], ["a", "f", "n", "t", "e", "z"])

    def test_order(self) -> None:
        z = sp.sh("z")
        steps = [z.sh("a"), sp.sh("m"), z.sh("b"), sp.sh("c", needs="m")]
        self.assertEqual([one["name"] for one in render(lambda: steps)["steps"]], ["m", "c", "z", "a", "b"])

    def test_a_long_chain(self) -> None:
        last = sp.sh("true")
        for _ in range(3000):
            last = last.sh("true")
        self.assertEqual(len(render(lambda: last)["steps"]), 3001)

    def test_unknown(self) -> None:
        error = self.refused("did you mean `build`?", step, sp.sh("a", needs="biuld"), sp.sh("build"))
        self.assertEqual(error.step, "a")
        self.refused("name a step", step, sp.sh("a", take="zzz"))

    def test_cycles(self) -> None:
        c = sp.sh("c", after="b")
        error = self.refused("a -> c -> b -> a", step, c.sh("a"), sp.sh("b", needs="a"), sp.sh("d", take="b"))
        self.assertEqual(error.step, "a")
        self.refused("`a` depends on itself", step, sp.sh("a", needs="a"))
        one = sp.sh("one")
        one.fork(one)
        self.refused("`one` depends on itself", step, one)
        first = sp.sh("first")
        first.wait().fork(first)
        self.refused("`first` depends on itself", step, first)


class Barriers(Case):
    def test_plain(self) -> None:
        group = sp.group(sp.sh("b"), sp.sh("a").sh("c"))
        self.assertEqual(step(group.wait().sh("d")), {"name": "d", "run": "d", "needs": ["b", "c"]})
        self.assertEqual(len(group), 2)
        self.assertEqual([one.run for one in group], ["b", "c"])

    def test_continue_on_failure(self) -> None:
        found = step(sp.group(sp.sh("b"), sp.sh("a")).wait(continue_on_failure=True).sh("d"))
        self.assertEqual(found, {"name": "d", "run": "d", "after": ["a", "b"]})

    def test_an_earlier_failure_counts_at_a_plain_wait(self) -> None:
        passed = sp.group(sp.sh("a"), sp.sh("b")).wait(continue_on_failure=True).sh("c").sh("d")
        self.assertEqual(step(passed.wait().sh("e"))["needs"], ["a", "b", "d"])
        self.assertEqual(step(passed.wait().sh("e").wait().sh("f"))["needs"], ["a", "b", "e"])

    def test_also_through_names(self) -> None:
        passed = sp.sh("a").wait(continue_on_failure=True).sh("b")
        last = sp.sh("c", needs="b").wait().sh("d")
        found = {one["name"]: one for one in render(lambda: (passed, last))["steps"]}
        self.assertEqual(found["d"]["needs"], ["a", "c"])

    def test_two_in_a_row(self) -> None:
        barrier = sp.sh("a").wait()
        self.assertEqual(step(barrier.wait().sh("b"))["needs"], ["a"])
        self.assertEqual(step(barrier.wait(continue_on_failure=True).sh("b"))["after"], ["a"])
        self.assertEqual(step(barrier.wait(continue_on_failure=True).wait().sh("b"))["needs"], ["a"])

    def test_several(self) -> None:
        barrier = sp.sh("a").wait()
        made = barrier.group(sp.sh("b", needs=sp.sh("x")), lambda before: before.sh("c").sh("d"))
        found = {one["name"]: (one.get("from"), one.get("needs")) for one in render(lambda: made.wait())["steps"]}
        expected = {"a": (None, None), "x": (None, None), "b": (None, ["a", "x"]), "c": (None, ["a"]), "d": ("c", None)}
        self.assertEqual(found, expected)
        one, two = barrier.fork(sp.sh("one"), sp.sh("two"))
        self.assertEqual(step(one, two)["needs"], ["a"])

    def test_a_step_behind_two(self) -> None:
        joined = sp.sh("a").wait().sh("c")
        sp.sh("b").wait(continue_on_failure=True).fork(joined)
        self.assertEqual(step(joined), {"name": "c", "run": "c", "needs": ["a"], "after": ["b"]})

    def test_refused(self) -> None:
        self.refused("`continue_on_failure` is 1", sp.sh("a").wait, continue_on_failure=1)
        self.refused("`group` got the str", sp.group, "a")
        self.refused("got a barrier", sp.group, sp.sh("a").wait())
