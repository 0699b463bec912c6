# Shared by the benchmarks: a release build, a state of its own on a real disk, and clean-up. Needs hyperfine.
set -euo pipefail
command -v hyperfine >/dev/null || { echo "hyperfine is missing: apt-get install hyperfine" >&2; exit 1; }
repository=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
setpoint=${SETPOINT_BINARY:-$repository/target/release/setpoint}
[ -x "$setpoint" ] || cargo build --release --locked -p setpoint --manifest-path "$repository/Cargo.toml"
place=$(mktemp -d "${BENCH_DIR:-/var/tmp}/setpoint-bench-XXXXXX")
export SETPOINT_STATE=$place/state SETPOINT_CONFIG=$place/config
mkdir -p "$place/project/.setpoint/packs" "$place/results"
cd "$place/project"
cleanup() { "$setpoint" down -q >/dev/null 2>&1 || true; cd /; rm -rf "$place"; }
trap cleanup EXIT

manifest() { printf 'setpoint = 1\n[env.dev]\n%s\n' "${1:-}" > setpoint.toml; }

# row NAME OPTIONS... -- COMMANDS: times the first command beside the others, in turn, and prints medians and ratios.
row() {
  local name=$1; shift
  hyperfine -N --warmup 3 --export-json "$place/results/$name.json" "$@" >/dev/null 2>&1
  python3 - "$name" "$place/results/$name.json" <<'PY'
import json, sys
name, path = sys.argv[1:]
results = json.load(open(path))["results"]
first = results[0]["median"]
for index, result in enumerate(results):
    ratio = "" if index == 0 else f"   {result['median'] / first:.1f} times as long"
    print(f"{name:<16} {result['median'] * 1000:9.2f} ms   {result['command'][-60:]}{ratio}")
PY
}
