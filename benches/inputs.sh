#!/usr/bin/env bash
# A look for drift over 10,000 tracked input files in 100 folders, none of them changed.
. "$(dirname "$0")/lib.sh"
begin "$@"

printf 'setpoint = 1\n[env.dev]\n[env.dev.hooks]\nupdate_content = { run = "true", inputs = ["src/**"] }\n' >setpoint.toml
for folder in $(seq 100); do
  mkdir -p "src/$folder"
  for file in $(seq 100); do echo "$folder $file" >"src/$folder/$file"; done
done
"$setpoint" -q up
sleep 2.5 # files so young may change again unnoticed by their times, and are read again
"$setpoint" -q up
"$setpoint" up | grep -q '10000 files' || { echo "it does not look at 10000 files" >&2; exit 1; }

measure "setpoint up, 10,000 files, nothing to do" "$setpoint up"
measure "floor: find, one stat a file" "find src -type f -size +1"
if command -v git >/dev/null; then
  git init -q . && git add src && git -c user.name=b -c user.email=b@localhost commit -qm b
  git status >/dev/null
  measure "git status" "git status --porcelain src"
fi
race
tell "drift check over 10,000 tracked inputs"
