import setpoint as sp


@sp.pipeline("ci")
def ci():
    return sp.group(
        sp.sh("date", name="always", cache=sp.none()),
        sp.sh("apt-get update", name="once", cache=sp.forever()),
        sp.sh("curl -O https://example.org/list", name="daily", cache=sp.ttl("1d")),
        sp.sh("npm ci", name="changed", cache=sp.on_change("package-lock.json", "package.json")),
        sp.sh(
            "npm ci",
            name="both",
            cache=sp.compose(sp.forever(), sp.ttl("1h 30m"), sp.on_change("package.json")),
        ),
        sp.sh("make docs", name="maybe", inputs=["Makefile", sp.optional("docs/**")]),
    )
