import setpoint as sp


@sp.pipeline("ci")
def ci():
    tests = sp.group(sp.sh("make unit", name="unit"), sp.sh("make slow", name="slow"))
    collected = tests.wait(continue_on_failure=True).group(sp.sh("make collect", name="collect"))
    return collected.wait().sh("make publish", name="publish")
