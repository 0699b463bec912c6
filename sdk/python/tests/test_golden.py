import json
import pathlib
import subprocess
import sys
import unittest

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parents[2] / "crates" / "model" / "tests" / "golden" / "ir"


class Golden(unittest.TestCase):
    def test_twins_render_the_same_bytes(self) -> None:
        names = sorted(path.stem for path in GOLDEN.glob("*.json"))
        self.assertTrue(names, f"no goldens in {GOLDEN}")
        self.assertEqual(names, sorted(path.stem for path in (HERE / "golden").glob("*.py")))
        for name in names:
            with self.subTest(name):
                command = [sys.executable, "-m", "setpoint", "render", str(HERE / "golden" / f"{name}.py"), "ci"]
                run = subprocess.run(command, cwd=HERE.parent, capture_output=True, check=False)
                self.assertEqual(run.stderr.decode(), "")
                expected = (GOLDEN / f"{name}.json").read_bytes()
                self.assertEqual(json.loads(run.stdout), json.loads(expected))
                self.assertEqual(run.stdout.decode(), expected.decode())


if __name__ == "__main__":
    unittest.main()
