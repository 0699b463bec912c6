#!/usr/bin/env bash
# `up` after one pack was appended: the pack itself does nothing.
source "$(dirname "$0")/lib.sh"
echo 'true' > .setpoint/packs/one.sh
echo 'true' > .setpoint/packs/two.sh
manifest 'packs = ["one"]'; cp setpoint.toml one.toml
manifest 'packs = ["one", "two"]'; cp setpoint.toml two.toml
cp one.toml setpoint.toml; "$setpoint" up -q
row pack --prepare "sh -c 'cp one.toml setpoint.toml; $setpoint up -q; cp two.toml setpoint.toml'" "$setpoint up -q"
