#!/usr/bin/env bash
# `status` of a project with one running environment.
. "$(dirname "$0")/lib.sh"
begin "$@"

printf 'setpoint = 1\n[env.dev]\n' >setpoint.toml
"$setpoint" -q up

measure "setpoint status" "$setpoint status"
measure "floor: spawn of a program (true)" "$(command -v true)"
if has_docker; then measure "docker ps" "docker ps"; fi
race
tell "status"
