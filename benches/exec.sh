#!/usr/bin/env bash
# F3: `exec -- true`, beside tools that are installed and do the same to a container that runs.
source "$(dirname "$0")/lib.sh"
manifest
"$setpoint" up -q
peers=()
command -v bwrap >/dev/null && peers+=("bwrap --ro-bind / / --unshare-pid --proc /proc --dev /dev true")
row exec "$setpoint exec -- true" "${peers[@]}"
