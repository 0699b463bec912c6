import setpoint as sp


@sp.target()
def fetch() -> sp.Step:
    return sp.sh("cargo fetch", name="fetch")


@sp.pipeline("ci")
def ci(fetch: sp.Step) -> sp.Step:
    return fetch.sh("cargo build", name="build").sh("cargo test", name="test")
