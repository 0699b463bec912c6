import setpoint as sp


@sp.pipeline(
    "ci",
    image="debian:bookworm",
    env={"CI": "true", "LEVEL": "1"},
    user="dev",
    network="none",
    workdir="app",
    timeout="1h",
)
def ci() -> sp.Step:
    base = sp.sh(
        "make base",
        name="base",
        network="host",
        host_paths=[],
        git=True,
        when=sp.when(branch=["main", "release/*"], tag="v*", event="push", env={"CI": "t*"}),
    )
    return base.sh(
        "make host",
        name="host",
        user="root",
        workdir="/srv",
        env={"LEVEL": "2", "TOKEN": sp.secret("token"), "PRICE": "${x}"},
        timeout=90,
        retries=1,
        services=["db", "cache"],
    )
