#!/usr/bin/env bash
# What clients notice of upgrades: 200 requests a second to a published port, each over a connection of its own and begun when
# it is due, whether the others have been answered or not, while the service is upgraded RUNS times. First without data, where
# it takes STARTS (3) seconds to get well, with another instance that stands in, and without; then in the compatible
# lane, where old and new work on the same data; then in the breaking lane with MEGABYTES (1000) of data, which are copied
# meanwhile. Tells how many requests failed, how many were told to come again (503 with Retry-After), how long the unluckiest one
# waited, and how long an upgrade's outage and its copying were. Needs root, python3 (the clients) and busybox (the
# server). With a Docker that answers the same is done there; DOCKER_HOST says which.
. "$(dirname "$0")/lib.sh"
begin "$@"
command -v python3 >/dev/null && [ -x /bin/busybox ] && [ "$(id -u)" -eq 0 ] ||
  { echo "left out: it needs root, python3 and /bin/busybox"; exit 0; }
ulimit -n "$(ulimit -Hn)"

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
megabytes=${MEGABYTES:-1000} starts=${STARTS:-3}
for version in one two; do
  mkdir -p root/bin root/etc root/data
  cp /bin/busybox root/bin/
  ln -sf busybox root/bin/sh
  echo root:x:0:0:root:/:/bin/sh >root/etc/passwd
  mkdir -p root/www
  echo "$version" >root/www/index.html
  tar -C root -cf "$version.tar" .
done
rm -r root
cat >clients.py <<'PYTHON'
import asyncio, os, sys, time
port, rate = int(sys.argv[1]), 200
waits, answered, later, failed = [], [], [], []
async def request():
    began = time.monotonic()
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"GET / HTTP/1.1\r\nHost: here\r\nConnection: close\r\n\r\n")
        said = (await asyncio.wait_for(reader.read(), 90)).decode().lower()
        writer.close()
        if said.startswith("http/1.1 503") and "\nretry-after:" in said:
            later.append(time.monotonic())
        elif said.split(" ")[1:2] == ["200"] and said.endswith(("one\n", "two\n")):
            answered.append(time.monotonic())
        else:
            raise OSError(said.split("\r\n")[0] or "closed without an answer")
    except (OSError, asyncio.TimeoutError) as error:
        failed.append(repr(error))
    waits.append(time.monotonic() - began)
async def clients():
    ends = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    tasks, due = [], time.monotonic()
    while not ends.done():
        tasks.append(asyncio.create_task(request()))
        due += 1 / rate
        await asyncio.sleep(max(0, due - time.monotonic()))
    await asyncio.gather(*tasks)
began = time.monotonic()
asyncio.run(clients())
answered.sort()
gap = max(b - a for a, b in zip(answered, answered[1:]))
print(f"{len(waits)} requests, {len(failed)} failed, {len(later)} told 503 with Retry-After, longest wait "
      f"{max(waits):.2f} s, longest gap {gap:.2f} s")
for what in sorted(set(failed)): print(f"  {failed.count(what)} x {what}")
PYTHON
cat >times.py <<'PYTHON'
import datetime, json, statistics, subprocess, sys
def history(*words):
    return json.loads(subprocess.check_output([sys.argv[1], "history", *words, "--json"]))["changes"]
at = lambda text: datetime.datetime.fromisoformat(text.replace("Z", "+00:00")[:26].rstrip("+:0") + "+00:00")
def tell(name, begins, ends):
    times = []
    for change in history():
        steps = history(str(change["number"]))[0]["steps"]
        begun = [at(s["at"]) for s in steps if s["step"].startswith(begins) and s["kind"] == "intent"]
        ended = [at(s["at"]) for s in steps if s["step"].startswith(ends) and s["kind"] == "done"]
        if begun and ended: times.append((ended[0] - begun[0]).total_seconds())
    if times: print(f"  {name}: median {statistics.median(times):.2f} s, longest {max(times):.2f} s")
tell("from the stop of the old to the port of the new", "freeze", ("admit", "publish"))
tell("of that, copying", "copy", "copy")
PYTHON

# manifest ENGINE SETTINGS VERSION: with data, unless it `starts slowly`.
manifest() {
  local volumes='volumes = { data = "/data" }' waits=''
  [ "$kind" != "starts slowly" ] || { volumes='' waits="busybox sleep $starts; "; }
  cat >setpoint.toml <<MANIFEST
setpoint = 1
[engine]
default = "$1"
[service.bench]
rootfs = "$3.tar"
user = "root"
command = "${waits}exec busybox httpd -f -p 8000 -h /www"
$volumes
ports = ["$port:8000"]
health = { http = "/", port = 8000, interval = "200ms", start_period = "1m" }
stop_grace = "1s"
[release]
steady = "200ms"
bake = "200ms"
$2
MANIFEST
}

# load ENGINE KIND SETTINGS: clients ask while the service is upgraded.
load() {
  local client version=one kind=$2
  manifest "$1" "$3" one
  "$setpoint" -q up --no-daemon
  until busybox wget -q -O /dev/null "http://127.0.0.1:$port/"; do sleep 0.2; done
  [ "$kind" != "breaking lane" ] || "$setpoint" exec bench -- busybox dd if=/dev/urandom of=/data/file bs=1M count="$megabytes" 2>/dev/null
  mkfifo "$work/pipe"
  python3 clients.py "$port" <"$work/pipe" >"$work/told" &
  client=$!
  exec 9>"$work/pipe"
  sleep 1
  for _ in $(seq "$runs"); do
    [ $version = one ] && version=two || version=one
    manifest "$1" "$3" $version
    "$setpoint" -q upgrade --no-daemon
    sleep 0.5
  done
  exec 9>&-
  wait "$client"
  rm "$work/pipe"
  printf '%s, %s%s, %s upgrades: %s\n' "$1" "$2" "${3:+, $3}" "$runs" "$(cat "$work/told")"
  python3 times.py "$setpoint"
  "$setpoint" -q uninstall --yes
  # The next one has no data yet.
  rm -rf "$SETPOINT_STATE"
}

for engine in embedded docker; do
  [ $engine = embedded ] || docker info >/dev/null 2>&1 || continue
  load $engine "starts slowly" ""
  load $engine "starts slowly" "stand_in = false"
  load $engine "compatible lane" 'lane = "compatible"'
  load $engine "breaking lane" ""
done
