#!/usr/bin/env bash
# What many services cost their daemon: a full pass over 200 that are well, memory, and the processor while nothing happens
# (UNITS for another number). The figures of passes are the daemon's own; a minute is waited for.
. "$(dirname "$0")/lib.sh"
begin "$@"
units=${UNITS:-200}

{
  echo 'setpoint = 1'
  for number in $(seq "$units"); do
    printf '[service.u%s]\nbase = "host"\ncommand = "exec sleep 86400.7"\nnetwork = "host"\n' "$number"
  done
} >setpoint.toml
"$setpoint" -q up 2>/dev/null
daemon=$(cat "$SETPOINT_STATE/daemon.lock")
get() { curl -s --unix-socket "$SETPOINT_STATE/api.sock" "http://setpoint$1"; }
figure() { get /metrics | awk -v name="$1" '$1 ~ "^" name { sum += $2 } END { printf "%.6f", sum }'; }
ticks() { awk '{ print $14 + $15 }' "/proc/$daemon/stat"; }
until [ "$(figure 'setpoint_units.*running')" = "$(printf '%.6f' "$units")" ]; do sleep 0.2; done
sleep 5

looks=$(figure setpoint_reconcile_seconds_count)
took=$(figure setpoint_reconcile_seconds_sum)
acts=$(figure setpoint_acts_total)
before=$(ticks)
sleep 60
after=$(ticks)
looks=$(echo "$(figure setpoint_reconcile_seconds_count) - $looks" | bc)
took=$(echo "$(figure setpoint_reconcile_seconds_sum) - $took" | bc)
acts=$(echo "$(figure setpoint_acts_total) - $acts" | bc)
echo "a full pass over $units units: $(echo "scale=2; $took * 1000 * $units / $looks" | bc) ms of looking and deciding, ${acts%.*} things done"
echo "the processor in a minute in which nothing happens: $(echo "scale=2; ($after - $before) * 100 / $(getconf CLK_TCK) / 60" | bc) % of a core"
echo "the daemon: $(awk '/VmRSS/ { print $2 }' "/proc/$daemon/status") kB resident, $(awk '/Threads/ { print $2 }' "/proc/$daemon/status") threads"
shims=$(pgrep -x -f '.*__shim.*' | head -50)
for shim in $shims; do awk '/^Rss/ { rss = $2 } /^Private/ { private += $2 } END { print rss, private }' "/proc/$shim/smaps_rollup"; done 2>/dev/null |
  awk '{ rss += $1; private += $2 } END { if (NR) printf "a shim: %d kB resident, %d kB of its own\n", rss / NR, private / NR }'
