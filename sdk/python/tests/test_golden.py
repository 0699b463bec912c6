"""The twins of the golden pipelines of the manifest: the same pipeline is the same JSON, byte for byte."""

import json
import os
import subprocess
import sys
import unittest
from pathlib import Path

HERE = Path(__file__).parent
GOLDEN = HERE.parents[2] / "crates/model/tests/golden/ir"


class Golden(unittest.TestCase):
    def test_every_golden_pipeline_has_a_twin_that_emits_the_same(self):
        goldens = sorted(GOLDEN.glob("*.json"))
        self.assertGreaterEqual(len(goldens), 6)
        for golden in goldens:
            with self.subTest(golden.stem):
                environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "PYTHONDONTWRITEBYTECODE": "1"}
                twin = HERE / "golden" / f"{golden.stem}.py"
                command = [sys.executable, "-m", "setpoint", "render", str(twin), "ci"]
                done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertEqual(json.loads(done.stdout), json.loads(golden.read_text()))
                self.assertEqual(done.stdout, golden.read_text(), "and the same bytes")


if __name__ == "__main__":
    unittest.main()
