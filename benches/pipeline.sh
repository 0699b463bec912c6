#!/usr/bin/env bash
# Pipelines: one step from nothing, a hundred in a chain cold, and the same chain cached over a source of 10,000 files.
. "$(dirname "$0")/lib.sh"
begin "$@"

chain() { # chain STEPS: a pipeline of so many trivial steps, each from the one before.
  printf 'setpoint = 1\n[pipeline.chain.step.s1]\nrun = ["true"]\n'
  local step
  for ((step = 2; step <= $1; step++)); do
    printf '[pipeline.chain.step.s%d]\nfrom = "s%d"\nrun = ["true"]\n' "$step" $((step - 1))
  done
}

chain 1 >setpoint.toml
measure "setpoint run, one step of true, not cached" "$setpoint -q run --no-cache"
if command -v bwrap >/dev/null; then
  measure "bwrap: a sandbox for one command" "bwrap --unshare-all --ro-bind / / --proc /proc --dev /dev --tmpfs /tmp true"
fi
once="runc run --bundle $work/bundle setpoint-bench-$$"
if runc_bundle true && $once </dev/null >/dev/null 2>&1; then
  measure "runc run: one command, then gone" "$once"
fi
if has_docker; then measure "docker run --rm busybox true" "docker run --rm busybox true"; fi
race
tell "a step from nothing"

commands=() names=()
rm -f "$work"/*.times
rounds=2 runs=3
chain 100 >setpoint.toml
measure "setpoint run, 100 steps in a chain, cold" "$setpoint -q run --no-cache"
race
tell "100 trivial steps"

commands=() names=()
rm -f "$work"/*.times
rounds=5 runs=10
for ((folder = 0; folder < 100; folder++)); do
  mkdir -p "src/$folder"
  for ((file = 0; file < 100; file++)); do echo "$folder $file" >"src/$folder/$file"; done
done
git init -q . && git add -A && git -c user.name=a -c user.email=a@b commit -qm all
"$setpoint" -q run
sleep 1
measure "setpoint run, 100 steps cached, 10,000 files" "$setpoint -q run"
measure "floor: find, one stat a file" "find . -not -name . -printf ''"
measure "git status" "git status --porcelain"
if command -v ninja >/dev/null; then
  {
    echo 'rule touch'
    echo '  command = touch $out'
    echo "build s1: touch $(printf 'src/%s ' $(cd src && find . -type f | sed 's|^\./||' | head -10000))"
    for ((step = 2; step <= 100; step++)); do echo "build s$step: touch s$((step - 1))"; done
  } >build.ninja
  ninja >/dev/null && measure "ninja, the same graph, no sandbox" "ninja"
fi
if has_docker; then
  {
    echo 'FROM busybox'
    echo 'COPY . /src'
    for ((step = 1; step <= 100; step++)); do echo "RUN true $step"; done
  } >"$work/Dockerfile"
  build="docker build -q -f $work/Dockerfile ."
  $build >/dev/null && measure "docker build, the same chain, cached" "$build"
fi
race
tell "a cached pipeline of 100 steps"
