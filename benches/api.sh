#!/usr/bin/env bash
# How long the daemon's API takes to answer while a service is being stopped that does not want to end: 2,000 requests for
# all units over one connection, in the middle of a stop of minutes.
. "$(dirname "$0")/lib.sh"
begin "$@"

cat >setpoint.toml <<'MANIFEST'
setpoint = 1
[service.stubborn]
base = "host"
command = "trap '' TERM; while :; do sleep 1; done"
network = "host"
stop_grace = "330s"
[service.other]
base = "host"
command = "exec sleep 86400.6"
network = "host"
MANIFEST
"$setpoint" -q up 2>/dev/null
python3 - "$SETPOINT_STATE/api.sock" <<'ASKS'
import http.client, json, socket, sys, time

class Unix(http.client.HTTPConnection):
    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(sys.argv[1])

def ask(connection, method, path):
    connection.request(method, path)
    answer = connection.getresponse()
    return answer.status, answer.read()

api = Unix("setpoint")
def stubborn():
    units = json.loads(ask(api, "GET", "/v1/units")[1])["units"]
    return next(unit for unit in units if unit["name"] == "stubborn")
one = stubborn()
times = []
status, _ = ask(api, "POST", f"/v1/units/{one['id']}/stop")
assert status == 202, status
while stubborn()["state"]["state"] != "stopping":
    time.sleep(0.01)
for _ in range(2000):
    began = time.monotonic()
    ask(api, "GET", "/v1/units")
    times.append(time.monotonic() - began)
assert stubborn()["state"]["state"] == "stopping"
ask(api, "POST", f"/v1/units/{one['id']}/kill")
began = time.monotonic()
while stubborn()["state"]["state"] == "stopping":
    time.sleep(0.001)
killed = time.monotonic() - began
times.sort()
print(f"an answer while a stop of 330 s goes on: {times[1000] * 1000:.2f} ms in the median, {times[1980] * 1000:.2f} ms at most in 99 of 100; `kill` ended it after {killed * 1000:.0f} ms")
ASKS
