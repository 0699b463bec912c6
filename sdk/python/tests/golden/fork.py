import setpoint as sp


@sp.target()
def fetch():
    return sp.sh(
        "cargo fetch", name="fetch", inputs=["Cargo.*", "crates/**"], cache_dirs=["/root/.cargo/registry"]
    )


@sp.pipeline("ci", timeout="30m", env={"CI": "true"})
def ci(fetch):
    lint, test, docs = fetch.fork(
        sp.sh(["cargo", "clippy", "--", "-D", "warnings"], name="lint"),
        sp.sh("cargo test", name="test", retries=2, timeout="10m"),
        sp.sh("cargo doc", name="docs", outputs=["target/doc/**"], artifacts=["target/doc/index.html"]),
    )
    return sp.group(lint, test).wait().sh("./report.sh", name="report", take=docs, cache=sp.none())
