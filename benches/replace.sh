#!/usr/bin/env bash
# What clients notice of replacements: 200 requests a second to a published port, while the service is restarted by an
# edit and made anew, RUNS times each. First each over a connection of its own; then by HTTP, half of them over connections
# that are kept. Tells how many requests failed, and the longest time in which none was answered; beside it how long the
# server itself takes until it listens, which is the least that there can be. Needs root and python3, which is the server
# and the clients. With a Docker that has the image busybox the same is done there, where every edit makes the container
# anew; beside it how long Docker itself takes to replace one.
. "$(dirname "$0")/lib.sh"
begin "$@"
command -v python3 >/dev/null && [ "$(id -u)" -eq 0 ] || { echo "left out: it needs root and python3"; exit 0; }

port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
mkdir own
cat >own/server.py <<'PYTHON'
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version, disable_nagle_algorithm = "HTTP/1.1", True
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"ok")
    def log_message(self, *words):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128
Server(("", int(sys.argv[1])), Handler).serve_forever()
PYTHON
cat >clients.py <<'PYTHON'
import http.client, os, sys, threading, time
port, all_kept, rate, clients = int(sys.argv[1]), int(sys.argv[2]), 200, 8
answered, failed, ends = [], [], threading.Event()
def client(number):
    kept = number < all_kept
    connection, due = None, time.monotonic() + number / rate
    while not ends.is_set():
        time.sleep(max(0, due - time.monotonic()))
        due += clients / rate
        try:
            connection = connection or http.client.HTTPConnection("127.0.0.1", port, timeout=60)
            connection.request("GET", "/")
            answer = connection.getresponse()
            if answer.read() != b"ok" or answer.status != 200:
                raise OSError(answer.status)
            answered.append(time.monotonic())
        except (OSError, http.client.HTTPException) as error:
            failed.append(repr(error))
            connection.close()
            connection = None
        if connection and not kept:
            connection.close()
            connection = None
threads = [threading.Thread(target=client, args=(number,)) for number in range(clients)]
began = time.monotonic()
for thread in threads: thread.start()
sys.stdin.read()
took = time.monotonic() - began
ends.set()
for thread in threads: thread.join()
answered.sort()
gap = max(later - earlier for earlier, later in zip(answered, answered[1:]))
print(f"{len(answered)} answered ({len(answered) / took:.0f} a second), {len(failed)} failed, longest gap {gap * 1000:.0f} ms")
for what in sorted(set(failed)): print(f"  {failed.count(what)} x {what}")
PYTHON

serve='mkdir /dev/shm/own; echo -n ok > /dev/shm/own/index.html; exec httpd -f -p 8000 -h /dev/shm/own'
on_host='[service.bench]
base = "host"
command = ["python3", "/srv/own/server.py", "8000"]
mounts = [{ source = "own", target = "/srv/own" }]'
on_docker="[engine]
default = \"docker\"
[service.bench]
image = \"busybox\"
command = [\"sh\", \"-c\", \"$serve\"]"

manifest() {
  cat >setpoint.toml <<MANIFEST
setpoint = 1
$service
env = { ROUND = "$1" }
ports = ["$port:8000"]
stop_grace = "5s"
$2
MANIFEST
}

# load NAME KEPT HEALTH: clients ask, so many of them over connections that they keep, while the service is replaced.
load() {
  local round client
  manifest 0 "$3"
  "$setpoint" -q up 2>/dev/null
  mkfifo "$work/pipe"
  python3 clients.py "$port" "$2" <"$work/pipe" >"$work/told" &
  client=$!
  exec 9>"$work/pipe"
  sleep 1
  for round in $(seq "$runs"); do
    manifest "$round" "$3"
    "$setpoint" -q up 2>/dev/null
    sleep 0.5
    "$setpoint" -q up --recreate 2>/dev/null
    sleep 0.5
  done
  exec 9>&-
  wait "$client"
  rm "$work/pipe"
  printf '%s, %s replacements: %s\n' "$1" $((2 * runs)) "$(cat "$work/told")"
  "$setpoint" -q down 2>/dev/null
}

loads() {
  service=$1
  load "$2connections of their own" 0 ""
  load "$2requests by HTTP, half over kept connections" 4 'health = { http = "/", port = 8000 }'
}

# floor WHAT: the median of the times.
floor() {
  echo "floor: $1 $(printf '%s\n' "${times[@]}" | sort -n | sed -n "$(((runs + 1) / 2))p") ms"
}

loads "$on_host" ""
times=()
for _ in $(seq "$runs"); do
  began=$(date +%s%N)
  python3 own/server.py "$port" &
  server=$!
  until (exec 3<>/dev/tcp/127.0.0.1/$port) 2>/dev/null; do :; done
  times+=($((($(date +%s%N) - began) / 1000000)))
  kill "$server" && wait "$server" 2>/dev/null || true
done
floor "the server itself listens after"

has_docker || exit 0
loads "$on_docker" "on Docker, "
peer_end() { docker rm -f setpoint-bench >/dev/null 2>&1; }
run() { docker run -d --name setpoint-bench --init busybox sh -c "$serve" >/dev/null; }
run
times=()
for _ in $(seq "$runs"); do
  began=$(date +%s%N)
  docker stop setpoint-bench >/dev/null
  docker rm setpoint-bench >/dev/null
  run
  address=$(docker inspect --format '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' setpoint-bench)
  until (exec 3<>/dev/tcp/"$address"/8000) 2>/dev/null; do :; done
  times+=($((($(date +%s%N) - began) / 1000000)))
done
floor "Docker itself replaces a container within"
