#!/usr/bin/env bash
# Kills upgrades, rollbacks and recoveries at every point that there is, one after the other, and prints at which version each
# ended; and Docker, while an upgrade stands at each of its steps. `./test` tries a part of them.
set -euo pipefail
cd "$(dirname "$0")/.."
SETPOINT_ALL_POINTS=1 cargo test -q -p setpoint --features failpoints --test engines -- --require-all killed --test-threads 1
