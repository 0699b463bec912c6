"""The package by itself: what it refuses, and what it makes of what it is given."""

import sys
import unittest
from datetime import timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
sys.dont_write_bytecode = True

import setpoint as sp  # noqa: E402
from setpoint import _targets  # noqa: E402
from setpoint._values import asked, milliseconds  # noqa: E402


class Case(unittest.TestCase):
    def setUp(self):
        _targets.pipelines.clear()
        _targets.targets.clear()

    def steps(self, call, **options):
        sp.pipeline("ci", **options)(call)
        return {step["name"]: step for step in _targets.evaluate("ci")["steps"]}

    def refuses(self, words, call, *arguments, **options):
        with self.assertRaises(sp.PipelineError) as caught:
            call(*arguments, **options)
        self.assertIn(words, str(caught.exception))


class Steps(Case):
    def test_a_chain_starts_each_step_from_the_one_before(self):
        steps = self.steps(lambda: sp.sh("a", name="a").sh("b", name="b"))
        self.assertEqual(steps["b"]["from"], "a")

    def test_a_step_without_a_name_gets_one_from_its_command(self):
        steps = self.steps(lambda: sp.group(sp.sh("Cargo test --all"), sp.sh(["cargo", "test", "--all"]), sp.sh("12")))
        self.assertEqual(sorted(steps), ["cargo-test-all", "cargo-test-all-2", "step"])

    def test_names_are_checked(self):
        for name in ("Test", "", "1a", "a_b", "a" * 64):
            self.refuses("cannot be a name", sp.sh, "x", name=name)
        self.refuses("two steps `a`", self.steps, lambda: sp.group(sp.sh("x", name="a"), sp.sh("y", name="a")))

    def test_options_that_there_are_not_are_refused(self):
        self.refuses("did you mean `inputs`", sp.sh, "x", input=["a"])
        self.refuses("runs nothing", sp.sh, " ")
        self.refuses("runs nothing", sp.sh, [])

    def test_two_barriers_in_a_row_keep_the_order(self):
        steps = self.steps(lambda: sp.sh("a", name="a").wait().wait().sh("b", name="b"))
        self.assertEqual(steps["b"]["needs"], ["a"])

    def test_a_barrier_that_goes_on_and_a_plain_one_behind_it(self):
        def ci():
            report = sp.sh("a", name="a").wait(continue_on_failure=True).group(sp.sh("r", name="r"))
            return report.wait().sh("z", name="z")

        steps = self.steps(ci)
        self.assertEqual(steps["r"]["after"], ["a"])
        self.assertNotIn("needs", steps["r"])
        self.assertEqual(steps["z"]["needs"], ["a", "r"])

    def test_branches_of_a_fork_start_from_it(self):
        def ci():
            base = sp.sh("a", name="a")
            return base.fork(sp.sh("b", name="b").sh("c", name="c"), lambda step: step.sh("d", name="d"))

        steps = self.steps(ci)
        self.assertEqual([steps[name]["from"] for name in "bcd"], ["a", "b", "a"])

    def test_everything_that_is_reachable_is_part_of_it(self):
        other = sp.sh("o", name="other")
        steps = self.steps(lambda: sp.sh("x", name="x", needs=other, take=[other]))
        self.assertEqual(sorted(steps), ["other", "x"])

    def test_parents_that_there_are_not_and_cycles_are_refused(self):
        self.refuses("did you mean `test`", self.steps, lambda: sp.group(sp.sh("x", name="x", needs="tets"), sp.sh("t", name="test")))
        _targets.pipelines.clear()
        one, two = sp.sh("1", name="one", needs="two"), sp.sh("2", name="two", needs="one")
        self.refuses("wait for each other: one, two", self.steps, lambda: [one, two])

    def test_durations(self):
        for given, expected in (("90s", 90_000), ("1h 30m", 5_400_000), (1.5, 1500), (timedelta(minutes=2), 120_000)):
            self.assertEqual(milliseconds(given), expected)
        for given in ("soon", "10", "", "-1s", "5 potatoes", 0, None):
            self.refuses("duration", milliseconds, given)

    def test_values_are_as_they_are_and_secrets_are_references(self):
        steps = self.steps(lambda: sp.sh("x", name="x", env={"A": "${HOME}", "B": "pre-" + sp.secret("t") + "${x}"}))
        self.assertEqual(steps["x"]["env"], {"A": "$${HOME}", "B": "pre-${secret.t}$${x}"})
        self.refuses("cannot be the name of a secret", sp.secret, "No")
        _targets.pipelines.clear()
        self.refuses("needs a text", self.steps, lambda: sp.sh("x", name="x", env={"A": 1}))


class Caches(Case):
    def cache(self, policy):
        _targets.pipelines.clear()
        return self.steps(lambda: sp.sh("x", name="x", cache=policy))["x"].get("cache")

    def test_predicates_give_a_text_a_number_or_bytes(self):
        self.assertEqual(self.cache(sp.predicate(lambda: "a")), [{"predicate": {"str": "a"}}])
        self.assertEqual(self.cache(sp.predicate(lambda: 2**70)), [{"predicate": {"int": str(2**70)}}])
        self.assertEqual(self.cache(sp.predicate(lambda: b"\x00\xff")), [{"predicate": {"bytes": "00ff"}}])

    def test_predicates_that_give_something_else_are_refused_with_the_name_of_the_step(self):
        self.refuses("needs a function", sp.predicate, "text")
        for value in (None, True, 1.5, []):
            self.refuses("step `x`: its predicate", self.cache, sp.predicate(lambda value=value: value))

        def broken():
            raise ValueError("no such thing")

        self.refuses("step `x`: its predicate `broken` failed: ValueError: no such thing", self.cache, sp.predicate(broken))

    def test_policies_that_do_not_go_together_are_refused(self):
        self.refuses("goes with no other", self.cache, sp.compose(sp.none(), sp.ttl("1d")))
        self.refuses("both `inputs` and `on_change`", sp.sh, "x", inputs=["a"], cache=sp.on_change("b"))
        self.refuses("needs policies", sp.compose, "none")

    def test_variables_of_forever_are_asked_for(self):
        asked.given = {"A": "1"}
        try:
            self.assertEqual(self.cache(sp.forever(env_keys=["A", "B"])), [{"forever": {"env": {"A": "1", "B": None}}}])
            self.assertEqual(asked.missing, ["B"])
        finally:
            asked.given = None
            asked.missing.clear()


class Targets(Case):
    def test_a_target_is_made_once_for_all_who_ask_for_it(self):
        calls = []

        @sp.target()
        def base():
            calls.append(1)
            return sp.sh("a", name="a")

        @sp.target()
        def more(base):
            return base.sh("b", name="b")

        steps = self.steps(lambda base, more: sp.group(base.sh("c", name="c"), more))
        self.assertEqual((len(calls), sorted(steps)), (1, ["a", "b", "c"]))

    def test_targets_that_there_are_not_and_cycles_are_refused(self):
        @sp.target()
        def toolchain(other):
            return other

        @sp.target()
        def other(toolchain):
            return toolchain

        self.refuses("did you mean `toolchain`", self.steps, lambda toolchian: None)
        _targets.pipelines.clear()
        self.refuses("other -> toolchain -> other", self.steps, lambda other: other)

    def test_only_the_pipeline_that_is_asked_for_is_called(self):
        @sp.pipeline("other")
        def other():
            raise AssertionError("nobody asked for it")

        self.steps(lambda: sp.sh("x"))

    def test_a_pipeline_that_is_there_twice_or_not_at_all_is_refused(self):
        self.steps(lambda: sp.sh("x"))
        self.refuses("is there twice", sp.pipeline("ci"), lambda: None)
        self.refuses("did you mean `ci`", _targets.evaluate, "cii")
        _targets.pipelines.clear()
        self.refuses("gives no steps", self.steps, lambda: None)


if __name__ == "__main__":
    unittest.main()
