import setpoint as sp


@sp.pipeline("ci")
def ci() -> sp.Step:
    checks = sp.group(sp.sh("make unit", name="unit"), sp.sh("make slow", name="slow"))
    collect = checks.wait(continue_on_failure=True).sh("make collect", name="collect")
    return collect.wait().sh("make publish", name="publish")
