#!/usr/bin/env bash
# All rows, one after the other.
for bench in "$(dirname "$0")"/*.sh; do
  case $bench in */lib.sh | */all.sh) ;; *) "$bench" ;; esac
done
