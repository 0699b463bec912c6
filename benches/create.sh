#!/usr/bin/env bash
# `up` of a new environment from the host base, and its removal, which is timed apart.
source "$(dirname "$0")/lib.sh"
manifest
row create --prepare "$setpoint down -q" "$setpoint up -q"
row remove --prepare "$setpoint up -q" "$setpoint down -q"
