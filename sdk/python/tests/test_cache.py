import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, List, Tuple
from unittest import mock

import setpoint as sp
from setpoint import _values

from .support import Case, render, step


def fail() -> str:
    raise ValueError("no luck")


class Policies(Case):
    def cache(self, policy: sp.Policy) -> object:
        return step(sp.sh("a", cache=policy)).get("cache")

    def test_forms(self) -> None:
        self.assertEqual(self.cache(sp.none()), ["none"])
        self.assertEqual(self.cache(sp.forever()), [{"forever": {}}])
        self.assertEqual(self.cache(sp.ttl("1d")), [{"ttl": {"ms": 86_400_000}}])
        self.assertIsNone(self.cache(sp.on_change("a")))
        self.assertEqual(self.cache(sp.compose(sp.ttl(1), sp.forever())), [{"ttl": {"ms": 1000}}, {"forever": {}}])

    def test_forever_with_variables(self) -> None:
        one = sp.sh("a", cache=sp.forever(env_keys=("B", "A", "B")))
        found = render(lambda: one, {"A": "1"})["steps"][0]["cache"]
        self.assertEqual(found, [{"forever": {"env": {"A": "1", "B": None}}}])
        self.assertEqual(self.cache(sp.forever(env_keys="A")), [{"forever": {"env": {"A": None}}}])

    def test_on_change_becomes_inputs(self) -> None:
        policy = sp.compose(sp.on_change("b", sp.optional("a")), sp.ttl(1), sp.on_change("c"))
        found = step(sp.sh("a", cache=policy))
        self.assertEqual(found["inputs"], ["b", {"glob": "a", "optional": True}, "c"])
        self.refused("keep one of them", sp.sh, "a", inputs="x", cache=policy)

    def test_predicates(self) -> None:
        good: List[Tuple[Any, object]] = [
            ("é", {"str": "é"}),
            ("", {"str": ""}),
            (b"\x00\xff", {"bytes": "00ff"}),
            (-12, {"int": "-12"}),
            (10**5000, {"int": "1" + "0" * 5000}),
        ]
        for given, emitted in good:
            with self.subTest(kind=type(given)):
                self.assertEqual(self.cache(sp.predicate(lambda: given)), [{"predicate": emitted}])
        if hasattr(sys, "get_int_max_str_digits"):
            self.assertNotEqual(sys.get_int_max_str_digits(), 0)

    def test_a_predicate_is_called_when_emitted_and_once(self) -> None:
        function = mock.Mock(return_value="x")
        policy = sp.predicate(function)
        one = sp.sh("a", cache=policy).sh("b", cache=policy)
        function.assert_not_called()
        step(one)
        function.assert_called_once_with()
        step(one)
        self.assertEqual(function.call_count, 2)

    def test_predicates_refused(self) -> None:
        self.refused("`predicate` got a value of type str", sp.predicate, "x")
        wrong: List[Tuple[Any, str]] = [
            (None, "gave None"),
            (True, "gave a value of type bool"),
            (1.5, "gave a value of type float"),
            ([], "gave a value of type list"),
        ]
        for value, kind in wrong:
            with self.subTest(kind):
                error = self.refused(kind, self.cache, sp.predicate(lambda: value))
                self.assertEqual(error.step, "a")
        self.refused("NUL", self.cache, sp.predicate(lambda: "\0"))

    def test_a_predicate_that_fails(self) -> None:
        error = self.refused("its predicate failed: ValueError: no luck", self.cache, sp.predicate(fail))
        self.assertEqual(error.step, "a")
        self.assertIsInstance(error.__cause__, ValueError)
        assert error.__cause__ is not None and error.__cause__.__traceback__ is not None

    def test_compositions_refused(self) -> None:
        self.refused("`none` goes with no other", sp.compose, sp.none(), sp.forever())
        self.refused("`none` goes with no other", sp.compose, sp.none(), sp.on_change("a"))
        self.refused("got no policy", sp.compose)
        self.refused("`compose` got a value of type str", sp.compose, "forever")
        self.refused("names no files", sp.on_change)
        self.refused("not a duration", sp.ttl, "soon")
        self.refused("`optional` is empty", sp.optional, "")


class Sources(Case):
    def test_variables(self) -> None:
        with _values.provided_by(_values.Provider("/", {"A": "1"})) as provider:
            self.assertEqual(sp.env("A"), "1")
            self.assertIsNone(sp.env("B"))
            self.assertEqual(sp.env("C", "x"), "x")
            self.assertEqual(provider.asked, {"A": "1", "B": None, "C": None})
        with mock.patch.dict("os.environ", {"SETPOINT_TEST": "here"}):
            self.assertEqual(sp.env("SETPOINT_TEST"), "here")
        self.refused("not a name", sp.env, "A=B")

    def test_files(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder, "root")
            root.mkdir()
            Path(folder, "outside").write_text("secret")
            (root / "a").write_bytes("é\r\n".encode())
            (root / "b").write_bytes(b"\xff")
            (root / "link").symlink_to(root.parent / "outside")
            with _values.provided_by(_values.Provider(str(root))) as provider:
                self.assertEqual(sp.read("a"), "é\r\n")
                self.refused("not UTF-8", sp.read, "b")
                self.refused("No such file", sp.read, "absent")
                self.refused("not in the project", sp.read, "../outside")
                self.refused("not in the project", sp.read, "link")
                self.assertEqual(provider.reads, {str(root / name) for name in ("a", "b", "absent")})


if __name__ == "__main__":
    unittest.main()
