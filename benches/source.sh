#!/usr/bin/env bash
# Taking the source: the first time, unchanged, and with one file changed, of 10,000 and of 100,000 files. The figures are
# of the whole command, with one step that is cached.
. "$(dirname "$0")/lib.sh"
begin "$@"

sizes=${SIZES:-10000 100000}
for files in $sizes; do
  rm -rf ./* .git
  printf 'setpoint = 1\n[pipeline.ci.step.look]\ninputs = ["d0/**"]\nrun = ["true"]\n' >setpoint.toml
  for ((folder = 0; folder < files / 100; folder++)); do
    mkdir -p "d$folder"
    split -b 7840 -a 2 -d --additional-suffix=.dat <(head -c 784000 /dev/urandom) "d$folder/f"
  done
  git init -q . && git add -A && git -c user.name=a -c user.email=a@b commit -qm all
  "$setpoint" -q cache clean
  begun=$(date +%s%N)
  "$setpoint" -q run >/dev/null
  first=$((($(date +%s%N) - begun) / 1000000))
  sleep 1
  "$setpoint" -q run >/dev/null
  commands=() names=()
  rm -f "$work"/*.times
  measure "setpoint run, unchanged" "$setpoint -q run"
  measure "floor: find, one stat a file" "find . -not -name . -printf ''"
  measure "git status" "git status --porcelain"
  rounds=3 runs=5 race
  printf 'source of %s files: the first time %s ms\n' "$files" "$first"
  tell "source of $files files"
  commands=() names=()
  rm -f "$work"/*.times
  measure "setpoint run, one file changed" "$setpoint -q run"
  rounds=2 runs=5 race "sh -c 'date +%N >> d1/f00.dat'"
  tell "source of $files files, one changed"
done
