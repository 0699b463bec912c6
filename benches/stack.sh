#!/usr/bin/env bash
# `up` with nothing to do on Docker: five services of a compose.yaml. Needs a Docker daemon (DOCKER_HOST, or the usual
# socket) with an image that has `sleep`: `busybox`, or what BENCH_IMAGE names.
. "$(dirname "$0")/lib.sh"
begin "$@"

image=${BENCH_IMAGE:-busybox}
docker image inspect "$image" >/dev/null 2>&1 || { echo "left out: there is no Docker with an image $image"; exit 0; }
{
  printf 'version: "3.7"\nservices:\n'
  for number in 1 2 3 4 5; do
    printf '  s%s: { image: "%s", command: [sleep, "100000"], init: true }\n' "$number" "$image"
  done
} >compose.yaml
"$setpoint" -q up 2>/dev/null

measure "setpoint up, five services, nothing to do" "$setpoint up"
if command -v docker-compose >/dev/null; then
  peer="docker-compose -f $project/compose.yaml -p setpoint-bench"
  peer_end() { $peer down >/dev/null 2>&1; }
  $peer up -d >/dev/null 2>&1
  measure "docker-compose up -d, the same" "$peer up -d"
fi
race
tell "no-op up on Docker"
