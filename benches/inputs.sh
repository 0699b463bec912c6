#!/usr/bin/env bash
# F1's growth: a look at 10,000 tracked files of which none changed, beside `find` with a stat of each.
source "$(dirname "$0")/lib.sh"
mkdir -p in
for folder in $(seq 100); do
  mkdir -p "in/$folder"
  for file in $(seq 100); do echo "$folder $file" > "in/$folder/$file"; done
done
manifest 'hooks = { update_content = { run = "true", inputs = ["in/**"] } }'
"$setpoint" up -q
sleep 3 # so that no file is younger than the cache
"$setpoint" up -q
row inputs "$setpoint up" "find in -type f -size +1M"
