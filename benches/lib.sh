# What every bench begins with; sourced, not run.
#
# A bench has a folder of its own below the one that it is given (else /var/tmp), with its own state, and takes both
# away when it ends. It measures in rounds, ours and the peers' in turn, so that a machine that slows down slows all
# of them; a figure is the median of all runs. SETPOINT_BINARY names the binary, ROUNDS and RUNS how often.

set -euo pipefail

repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
setpoint=${SETPOINT_BINARY:-$repository/target/release/setpoint}
rounds=${ROUNDS:-5}
runs=${RUNS:-10}
commands=()
names=()

# begin [DIR]: makes the folder, the state, and a project in $project.
begin() {
  command -v hyperfine >/dev/null || {
    echo "hyperfine is missing: apt-get install hyperfine" >&2
    exit 2
  }
  [ -x "$setpoint" ] || cargo build --release --locked -p setpoint --manifest-path "$repository/Cargo.toml"
  work=$(mktemp -d "${1:-/var/tmp}/setpoint-bench.XXXXXX")
  trap end EXIT
  trap 'exit 130' INT TERM
  export SETPOINT_STATE=$work/state SETPOINT_CONFIG=$work/config
  project=$work/project
  mkdir -p "$project/.setpoint/packs"
  cd "$project"
}

# end: whatever happened, nothing of a bench stays. `peer_end` is what a bench adds to it.
end() {
  local code=$?
  set +e
  declare -F peer_end >/dev/null && peer_end
  cd /
  "$setpoint" -q uninstall --yes >/dev/null 2>&1
  rm -rf "$work"
  exit "$code"
}

# measure NAME COMMAND: adds a command to those that are measured in turn, the first of which is ours.
measure() {
  names+=("$1")
  commands+=("$2")
}

# race [PREPARE]: measures all commands, round by round; PREPARE runs before each of our runs, and is not counted.
race() {
  local round index options
  for ((round = 0; round < rounds; round++)); do
    for index in "${!commands[@]}"; do
      options=(--shell=none --warmup 2 --runs "$runs" --style none --export-json "$work/times.json")
      if [ "$index" -eq 0 ] && [ $# -gt 0 ]; then options+=(--prepare "$1"); fi
      hyperfine "${options[@]}" "${commands[$index]}" >/dev/null 2>"$work/said" || {
        cat "$work/said" >&2
        exit 1
      }
      sed -n '/"times"/,/]/p' "$work/times.json" | grep -Eo '[0-9]+\.[0-9]+([eE]-?[0-9]+)?' >>"$work/$index.times"
    done
  done
}

# median INDEX: of all runs of a command, in milliseconds.
median() {
  sort -g "$work/$1.times" | awk '{ t[NR] = $1 } END { printf "%.2f", 1000 * (t[int((NR + 1) / 2)] + t[int(NR / 2) + 1]) / 2 }'
}

# tell ROW: prints a line for each command: its median, and how many times ours it is.
tell() {
  local index ours theirs ratio
  ours=$(median 0)
  printf '%s\n' "$1"
  for index in "${!commands[@]}"; do
    theirs=$(median "$index")
    ratio=$(awk -v ours="$ours" -v theirs="$theirs" 'BEGIN { printf "%.2f", theirs / ours }')
    printf '  %-40s %9s ms  %6sx\n' "${names[$index]}" "$theirs" "$ratio"
  done
}

# runc_bundle COMMAND...: makes a bundle with a root of busybox for runc, if both are installed.
runc_bundle() {
  command -v runc >/dev/null && [ -x /bin/busybox ] && [ "$(id -u)" -eq 0 ] || return 1
  local root=$work/bundle/rootfs
  mkdir -p "$root/bin" "$root/proc" "$root/dev" "$root/sys"
  cp /bin/busybox "$root/bin/"
  local tool
  for tool in sh true sleep; do ln -s busybox "$root/bin/$tool"; done
  (cd "$work/bundle" && runc spec)
  local arguments='' word
  for word in "$@"; do arguments+="${arguments:+, }\"$word\""; done
  sed -i -e 's/"terminal": true/"terminal": false/' -e "s|\"sh\"\$|$arguments|" "$work/bundle/config.json"
}

# has_docker: whether a Docker daemon answers and has an image called busybox; nothing is pulled.
has_docker() {
  command -v docker >/dev/null && docker image inspect busybox >/dev/null 2>&1
}
