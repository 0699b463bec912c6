"""What the binary starts: refuses interpreters that are too old, before anything that they cannot read."""

import sys

if sys.version_info < (3, 9):
    sys.exit(39)

from setpoint._evaluate import main  # noqa: E402

main(sys.argv[1])
