from datetime import timedelta
from typing import Iterator

import setpoint as sp


@sp.pipeline("ci")
def ci() -> Iterator[sp.Step]:
    yield sp.sh("date", name="always", cache=sp.none())
    yield sp.sh("apt-get update", name="once", cache=sp.forever())
    yield sp.sh("curl -O https://example.org/list", name="daily", cache=sp.ttl(timedelta(days=1)))
    yield sp.sh("npm ci", name="changed", cache=sp.on_change("package-lock.json", "package.json"))
    both = sp.compose(sp.forever(), sp.ttl("1h 30m"), sp.on_change("package.json"))
    yield sp.sh("npm ci", name="both", cache=both)
    yield sp.sh("make docs", name="maybe", inputs=["Makefile", sp.optional("docs/**")])
