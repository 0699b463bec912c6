#!/usr/bin/env bash
# An `up` after one pack was appended to the list: it runs that pack and nothing else. The packs do nothing, so that
# what is measured is ours. Each run begins with the record of the list without that pack.
. "$(dirname "$0")/lib.sh"
begin "$@"

touch .setpoint/packs/one.sh .setpoint/packs/two.sh
printf 'setpoint = 1\n[env.dev]\npacks = ["one"]\n' >without.toml
printf 'setpoint = 1\n[env.dev]\npacks = ["one", "two"]\n' >with.toml
cp without.toml setpoint.toml
"$setpoint" -q up
printf '#!/bin/sh\ncp without.toml setpoint.toml && "%s" -q up && cp with.toml setpoint.toml\n' "$setpoint" >reset
chmod +x reset
cp with.toml setpoint.toml
"$setpoint" plan | grep -q 'run pack two' || { echo "the plan is not to run that pack" >&2; exit 1; }

measure "setpoint up, one pack appended" "$setpoint up"
measure "floor: that script by hand (bash)" "bash -e $project/.setpoint/packs/two.sh"
race ./reset
tell "up after one pack was appended"
