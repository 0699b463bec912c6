#!/usr/bin/env bash
# An environment on base `host` from nothing: made, started, recorded. Peers that only run a command in a sandbox and
# keep nothing do less.
. "$(dirname "$0")/lib.sh"
begin "$@"

printf 'setpoint = 1\n[env.dev]\n' >setpoint.toml
"$setpoint" -q up
"$setpoint" -q down

measure "setpoint up, from nothing" "$setpoint up"
if command -v bwrap >/dev/null; then
  measure "bwrap: a sandbox for one command" "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp true"
fi
once="runc run --bundle $work/bundle setpoint-bench-$$"
if runc_bundle true && $once </dev/null >/dev/null 2>&1; then
  measure "runc run: one command, then gone" "$once"
fi
if has_docker; then measure "docker run --rm busybox true" "docker run --rm busybox true"; fi
race "$setpoint -q down"
tell "create from the host base"
