#!/usr/bin/env bash
# `status` of a project with one environment.
source "$(dirname "$0")/lib.sh"
manifest
"$setpoint" up -q
row status "$setpoint status"
