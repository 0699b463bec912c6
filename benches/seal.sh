#!/usr/bin/env bash
# What it costs to keep what a step wrote, and to start the next from it, whatever its size. The first figure is from
# the step's own last moment to the event that it ended; it is told in whole milliseconds.
. "$(dirname "$0")/lib.sh"
begin "$@"

row() { # row NAME SCRIPT
  cat >setpoint.toml <<TOML
setpoint = 1
[pipeline.ci.step.write]
run = '$2; date +%s%N'
[pipeline.ci.step.next]
from = "write"
cache = "none"
run = ["true"]
TOML
  local round
  : >"$work/seal"
  for ((round = 0; round < 5; round++)); do
    "$setpoint" run --no-cache --json >"$work/events"
    local ended said
    said=$(sed -n 's/.*"event":"output".*"step":"write".*"line":"\([0-9]\{19\}\)".*/\1/p' "$work/events" | tail -n 1)
    ended=$(sed -n 's/.*"at":"\([^"]*\)".*"event":"step_ended","step":"write".*/\1/p' "$work/events")
    echo $(($(date -d "$ended" +%s%N) - said)) >>"$work/seal"
  done
  local median
  median=$(sort -n "$work/seal" | sed -n 3p)
  "$setpoint" -q run
  commands=() names=()
  rm -f "$work"/*.times
  measure "the next step from there (whole command)" "$setpoint -q run"
  rounds=2 runs=5 race
  printf '%s\n  %-40s %9.2f ms\n' "$1" "seal (end of the step to its event)" "$(awk -v ns="$median" 'BEGIN { print ns / 1e6 }')"
  tell "  then"
}

row "a step that wrote 1 MB" 'head -c 1000000 /dev/zero > file'
row "a step that wrote 500 MB in 5 files" 'for f in 1 2 3 4 5; do head -c 100000000 /dev/zero > file$f; done'
row "a step that wrote 20,000 files" 'mkdir d; cd d; seq 20000 | xargs -n 500 touch'
