import setpoint as sp


@sp.pipeline("ci", timeout="30m", env={"CI": "true"})
def ci() -> sp.Step:
    fetch = sp.sh(
        "cargo fetch",
        name="fetch",
        inputs=["Cargo.*", "crates/**"],
        cache_dirs=["/root/.cargo/registry"],
    )
    lint, test, docs = fetch.fork(
        sp.sh(["cargo", "clippy", "--", "-D", "warnings"], name="lint"),
        sp.sh("cargo test", name="test", retries=2, timeout="10m"),
        lambda step: step.sh(
            "cargo doc",
            name="docs",
            outputs=["target/doc/**"],
            artifacts=["target/doc/index.html"],
        ),
    )
    return sp.sh("./report.sh", name="report", needs=[test, lint], take=docs, cache=sp.none())
