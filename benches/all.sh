#!/usr/bin/env bash
# Every bench, one after the other. `benches/all.sh [DIR]`; DIR is a folder on the file system to measure on.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for bench in noop-up status exec pack create inputs pipeline seal source stack restart api units replace upgrade; do
  "$here/$bench.sh" "$@"
done
