#!/usr/bin/env bash
# A command in a running environment, from start to exit.
. "$(dirname "$0")/lib.sh"
begin "$@"

printf 'setpoint = 1\n[env.dev]\n' >setpoint.toml
"$setpoint" -q up
first=$(sed -n 's/.*"pid":\([0-9]*\).*/\1/p' "$work"/state/units/v1/*/running.json)

measure "setpoint exec -- true" "$setpoint exec -- true"
if [ "$(id -u)" -eq 0 ]; then
  measure "floor: nsenter (util-linux)" "nsenter --target $first --mount --uts --ipc --pid true"
fi
name=setpoint-bench-$$
if runc_bundle sleep 3600 && runc run --detach --bundle "$work/bundle" "$name" </dev/null >/dev/null 2>&1; then
  peer_end() { runc delete --force "$name"; }
  measure "runc exec true" "runc exec $name true"
elif has_docker; then
  docker run --detach --rm --name "$name" busybox sleep 3600 >/dev/null
  peer_end() { docker rm -f "$name" >/dev/null; }
  measure "docker exec true" "docker exec $name true"
fi
race
tell "exec true"
