import json
import os
import subprocess
import sys
import tempfile
import unittest
from pathlib import Path
from typing import Any, Dict, List, Optional

PACKAGE = Path(__file__).resolve().parents[1]


class Evaluation(unittest.TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name).resolve()

    def write(self, name: str, text: str) -> str:
        path = self.root / ".setpoint" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("import setpoint as sp\n" + text, encoding="utf-8")
        return f".setpoint/{name}"

    def run_with(self, request: bytes) -> "tuple[int, bytes, str, str]":
        reading, writing = os.pipe()
        script = f"exec 3>&{writing}; exec {sys.executable} -m setpoint._evaluate"
        process = subprocess.Popen(
            # Not every shell knows descriptors of two digits.
            ["/bin/bash", "-c", script],
            cwd=self.root,
            env={**os.environ, "PYTHONPATH": str(PACKAGE), "FROM_OUTSIDE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[writing],
        )
        os.close(writing)
        out, err = process.communicate(request)
        with os.fdopen(reading, "rb") as answer:
            return process.returncode, answer.read(), out.decode(), err.decode()

    def ask(
        self,
        files: List[str],
        pipeline: Optional[str] = "ci",
        variables: Optional[Dict[str, str]] = None,
    ) -> Dict[str, Any]:
        request = {
            "protocol": 1,
            "files": files,
            "root": str(self.root),
            "pipeline": pipeline,
            "variables": variables or {},
        }
        code, answer, out, self.err = self.run_with(json.dumps(request).encode())
        self.assertEqual((code, out), (0, ""), self.err)
        found: Dict[str, Any] = json.loads(answer)
        self.assertEqual(found["protocol"], 1)
        return found

    def failure(self, text: str, pipeline: Optional[str] = "ci") -> Dict[str, Any]:
        found = self.ask([self.write("ci.py", text)], pipeline)
        self.assertEqual(list(found)[:6], ["protocol", "ok", "kind", "message", "step", "trace"])
        self.assertIs(found["ok"], False)
        self.assertNotIn(str(PACKAGE / "setpoint"), found["trace"])
        return found

    def test_an_answer(self) -> None:
        self.write("helper.py", "IMAGE = 'debian'\n")
        file = self.write(
            "ci.py",
            "import helper, os\n"
            "print('hello')\n"
            "os.system('echo from a program')\n"
            "@sp.pipeline('ci', image=helper.IMAGE)\n"
            "def ci():\n"
            "    '''Builds.\n\n    And more.\n    '''\n"
            "    sp.read('version')\n"
            "    return sp.sh('a', env={'A': sp.env('A'), 'B': sp.env('B', 'b'), 'C': sp.env('FROM_OUTSIDE', 'c')},\n"
            "                 cache=sp.predicate(lambda: 1))\n",
        )
        other = self.write("other.py", "@sp.pipeline('before')\ndef before():\n    raise ValueError\n")
        (self.root / "version").write_text("1")
        found = self.ask([file, other], variables={"A": "1"})
        folder = self.root / ".setpoint"
        step = {
            "name": "a",
            "run": "a",
            "image": "debian",
            "env": {"A": "1", "B": "b", "C": "c"},
            "cache": [{"predicate": {"int": "1"}}],
        }
        expected = {
            "protocol": 1,
            "ok": True,
            "pipelines": [
                {"name": "before", "file": ".setpoint/other.py", "line": 2, "doc": None},
                {"name": "ci", "file": ".setpoint/ci.py", "line": 5, "doc": "Builds.\n\nAnd more."},
            ],
            "ir": {"setpoint_ir": 1, "name": "ci", "steps": [step]},
            "imports": [str(folder / name) for name in ("ci.py", "helper.py", "other.py")],
            "reads": [str(folder), *(str(folder / name) for name in ("ci.py", "helper.py", "other.py")),
                      str(self.root / "version")],
            "variables": {"A": "1", "B": None, "FROM_OUTSIDE": None},
            "missing": ["B", "FROM_OUTSIDE"],
            "predicates": True,
        }
        self.assertEqual(found, expected)
        self.assertEqual(list(found), list(expected))
        self.assertEqual(self.err, "hello\nfrom a program\n")
        self.assertEqual(list(self.root.rglob("*.pyc")), [])

    def test_the_list_alone(self) -> None:
        file = self.write("ci.py", "@sp.pipeline('ci')\ndef ci():\n    raise ValueError\n")
        found = self.ask([file], None)
        self.assertIsNone(found["ir"])
        self.assertIs(found["predicates"], False)
        self.assertEqual([one["name"] for one in found["pipelines"]], ["ci"])
        self.assertEqual(self.ask([], None)["pipelines"], [])

    def test_a_file_that_another_imports(self) -> None:
        ci = self.write("ci.py", "@sp.target()\ndef t():\n    return sp.sh('a')\n"
                                 "@sp.pipeline('ci')\ndef ci(t):\n    return t\n")
        other = self.write("other.py", "import ci\n")
        for files in ([ci, other], [other, ci]):
            self.assertEqual(len(self.ask(files)["ir"]["steps"]), 1)

    def test_syntax(self) -> None:
        found = self.failure("x = (\n")
        self.assertEqual(found["kind"], "syntax")
        self.assertIn(".setpoint/ci.py:2: ", found["message"])
        self.assertIn('File ".setpoint/ci.py", line 2', found["trace"])
        self.write("helper.py", "def\n")
        found = self.failure("import helper\n")
        self.assertEqual(found["kind"], "syntax")
        self.assertIn(".setpoint/helper.py:2: ", found["message"])

    def test_an_exception(self) -> None:
        found = self.failure("import json\n@sp.pipeline('ci')\ndef ci():\n    json.loads('{')\n")
        self.assertEqual(found["kind"], "exception")
        self.assertIn("JSONDecodeError", found["message"])
        lines = found["trace"].splitlines()
        self.assertEqual(lines[:2], ['  File ".setpoint/ci.py", line 5, in ci', "    json.loads('{')"])
        self.assertEqual(len([line for line in lines if "File" in line]), 1)
        self.assertEqual(self.failure("raise SystemExit(3)\n")["kind"], "exception")
        self.assertEqual(self.failure("import absent\n")["kind"], "exception")
        self.assertEqual(self.failure("raise ValueError('\\udc80')\n")["kind"], "exception")

    def test_an_exception_far_down(self) -> None:
        found = self.failure("def down(n):\n    return down(n + 1)\ndown(0)\n")
        lines = found["trace"].splitlines()
        self.assertLess(len(lines), 50)
        self.assertIn('File ".setpoint/ci.py", line 4, in <module>', lines[0])
        self.assertTrue(any(line.endswith(" more frames") for line in lines))
        self.assertIn("RecursionError", lines[-1])

    def test_a_pipeline_error(self) -> None:
        found = self.failure("sp.sh('a', name='b', image=1)\n")
        self.assertEqual((found["kind"], found["step"]), ("pipeline", "b"))
        self.assertEqual(found["message"], "step `b`: `image` is a value of type int; give a str")
        self.assertIn("PipelineError: step `b`", found["trace"])
        self.assertIn('File ".setpoint/ci.py", line 2, in <module>', found["trace"])
        found = self.failure("a = b = 1\n@sp.pipeline('c i')\ndef ci(): pass\n")
        self.assertIsNone(found["step"])

    def test_a_predicate_that_fails(self) -> None:
        found = self.failure(
            "def changed():\n    raise ValueError('no luck')\n"
            "@sp.pipeline('ci')\ndef ci():\n    return sp.sh('a', cache=sp.predicate(changed))\n"
        )
        self.assertEqual((found["kind"], found["step"]), ("pipeline", "a"))
        self.assertIn('File ".setpoint/ci.py", line 3, in changed', found["trace"])
        self.assertLess(found["trace"].index("ValueError: no luck"), found["trace"].index("PipelineError"))

    def test_unknown(self) -> None:
        found = self.failure("@sp.pipeline('ci')\ndef ci(): pass\n", "cj")
        self.assertEqual(found["kind"], "unknown-pipeline")
        self.assertIn("the pipelines are: `ci`", found["message"])
        found = self.ask([".setpoint/absent.py"])
        self.assertEqual(found["kind"], "pipeline")
        self.assertIn("`.setpoint/absent.py` cannot be read", found["message"])

    def test_requests_that_are_none(self) -> None:
        for request in [b"", b"[]", b'{"protocol":2}', b'{"protocol":1}']:
            code, answer, _, err = self.run_with(request)
            self.assertEqual((code, answer), (2, b""))
            self.assertIn("setpoint: ", err)

    def test_no_descriptor(self) -> None:
        command = [sys.executable, "-m", "setpoint._evaluate"]
        run = subprocess.run(command, cwd=PACKAGE, input=b"{}", capture_output=True, check=False)
        self.assertEqual(run.returncode, 2)
        self.assertIn(b"descriptor 3", run.stderr)

    def render(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        command = [sys.executable, "-m", "setpoint", *arguments]
        env = {**os.environ, "PYTHONPATH": str(PACKAGE)}
        return subprocess.run(command, cwd=self.root, env=env, capture_output=True, text=True, check=False)

    def test_render(self) -> None:
        file = self.write("ci.py", "print('x')\n@sp.pipeline('ci')\ndef ci():\n    return sp.sh('a')\n")
        run = self.render("render", file, "ci")
        self.assertEqual((run.returncode, run.stderr), (0, "x\n"))
        self.assertEqual(json.loads(run.stdout)["steps"], [{"name": "a", "run": "a"}])
        run = self.render("render", file, "cj")
        self.assertEqual((run.returncode, run.stdout), (1, ""))
        self.assertIn("the pipelines are: `ci`", run.stderr)
        run = self.render("render", self.write("bad.py", "1 / 0\n"), "ci")
        self.assertEqual(run.returncode, 1)
        self.assertIn('File ".setpoint/bad.py", line 2', run.stderr)
        self.assertEqual(self.render("render").returncode, 2)


if __name__ == "__main__":
    unittest.main()
