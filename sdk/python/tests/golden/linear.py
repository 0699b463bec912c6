import setpoint as sp


@sp.pipeline("ci")
def ci():
    return sp.sh("cargo fetch", name="fetch").sh("cargo build", name="build").sh("cargo test", name="test")
