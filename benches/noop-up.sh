#!/usr/bin/env bash
# An `up` that has nothing to do: one environment, two packs, two hooks, nothing drifted.
. "$(dirname "$0")/lib.sh"
begin "$@"

printf 'setpoint = 1\n[env.dev]\npacks = ["one", "two"]\n[env.dev.hooks]\n' >setpoint.toml
printf 'update_content = { run = "true", inputs = ["lock"] }\npost_create = "true"\n' >>setpoint.toml
touch .setpoint/packs/one.sh .setpoint/packs/two.sh lock
"$setpoint" -q up

measure "setpoint up, nothing to do" "$setpoint up"
measure "floor: spawn of a program (true)" "$(command -v true)"
if command -v devcontainer >/dev/null && has_docker; then
  mkdir -p "$work/peer/.devcontainer"
  echo '{ "image": "busybox" }' >"$work/peer/.devcontainer/devcontainer.json"
  devcontainer up --workspace-folder "$work/peer" >/dev/null
  peer_end() { docker ps -aq --filter "label=devcontainer.local_folder=$work/peer" | xargs -r docker rm -f >/dev/null; }
  measure "devcontainer up, nothing to do" "devcontainer up --workspace-folder $work/peer"
fi
race
tell "no-op up"
