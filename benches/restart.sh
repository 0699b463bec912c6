#!/usr/bin/env bash
# How long a service is away whose process was killed, until the one after it has written its first line; and what the
# daemon that starts it takes of memory. Each round begins with an `up`, which forgives the ends before it.
. "$(dirname "$0")/lib.sh"
begin "$@"

cat >setpoint.toml <<'MANIFEST'
setpoint = 1
[service.bench]
command = "echo began; exec sleep 86400.5"
network = "host"
MANIFEST
"$setpoint" -q up 2>/dev/null
# The daemon that it started.
daemon=$(cat "$SETPOINT_STATE/daemon.lock")

log=$(echo "$work"/state/units/v1/bench-*/output.log)
times=()
for _ in $(seq $((rounds * runs))); do
  "$setpoint" -q stop 2>/dev/null
  "$setpoint" -q up 2>/dev/null
  sleep 0.1
  before=$(stat -c %s "$log")
  victim=$(pgrep -xf 'sleep 86400.5')
  began=$(date +%s%N)
  kill -9 "$victim"
  while [ "$(stat -c %s "$log")" = "$before" ]; do :; done
  times+=($((($(date +%s%N) - began) / 1000)))
done
median=$(printf '%s\n' "${times[@]}" | sort -n | sed -n "$(((${#times[@]} + 1) / 2))p")
echo "a killed service has begun again: ${median} us in the median of ${#times[@]} (a look at the log takes 1 to 2 ms of it)"
echo "the daemon: $(awk '/VmRSS/ { print $2 }' "/proc/$daemon/status") kB resident"
