#!/usr/bin/env bash
# F1: `up` when there is nothing to do, beside the spawn of a small process.
source "$(dirname "$0")/lib.sh"
manifest 'hooks = { on_create = "true", post_attach = "true" }'
"$setpoint" up -q
row noop-up "$setpoint up" "/bin/true"
