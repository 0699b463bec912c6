import setpoint as sp


@sp.pipeline("ci")
def ci() -> sp.Step:
    builds = sp.group(
        *(
            sp.sh(
                f"make build-{profile}",
                name=f"build-{profile.lower()}-{version.replace('.', '-')}",
                image=f"python:{version}",
                env={"PROFILE": profile, "AUTH": sp.secret("token") + "-" + profile},
            )
            for profile in ("Dev", "release")
            for version in ("3.12", "3.13")
        )
    )
    return builds.wait().sh(["true"], name="all")
