import setpoint as sp


@sp.target()
def words():
    return sp.sh(
        r"tr -cs '[:alpha:]' '\n' < text.txt | sort > words.txt",
        name="words",
        inputs=["text.txt"],
        outputs=["words.txt"],
    )


@sp.pipeline("ci")
def ci(words):
    """Looks at a text from three sides at once."""
    sides = words.fork(
        sp.sh("wc -l < words.txt > count.txt", name="count", inputs=[], outputs=["count.txt"]),
        sp.sh(
            "awk '{ print length, $0 }' words.txt | sort -n | tail -n 1 > longest.txt",
            name="longest",
            inputs=[],
            outputs=["longest.txt"],
        ),
        sp.sh(
            "uniq -c words.txt | sort -n | tail -n 1 > common.txt",
            name="common",
            inputs=[],
            outputs=["common.txt"],
        ),
    )
    return sp.sh(
        "cat count.txt longest.txt common.txt | tee report.txt",
        name="report",
        take=sides,
        inputs=[],
        artifacts=["report.txt"],
    )
