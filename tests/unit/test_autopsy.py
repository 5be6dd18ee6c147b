"""What is told of a launch that failed."""

from tests.machine import autopsy

PRINTED = """ +  vre:service:Door jupyter creating (30s) no answer
 +  vre:service:Door jupyter **creating failed** error: no answer
Diagnostics:
  vre:service:Door (jupyter):
    error: https://192.0.2.1/: no answer

Outputs:
    url: "https://192.0.2.1/"

Resources:
    + 20 created
"""


def test_the_engines_own_words_are_told() -> None:
    assert autopsy.reason(PRINTED) == "vre:service:Door (jupyter):\nerror: https://192.0.2.1/: no answer"


def test_without_any_the_end_of_what_was_printed_is() -> None:
    assert autopsy.reason("first\n" + "x" * 2000 + "\nkilled\n").endswith("x\nkilled")


JOURNAL = """\
[ 2655.120001] one systemd[1]: Stopping containerd.service - containerd container runtime...
[ 2656.402244] one systemd[1]: cri-containerd-{id}.scope: Deactivated successfully.
[ 2657.000001] one containerd[17160]: time="2026-11-28T11:11:00Z" level=info msg="loading plugin io.x..."
[ 2660.100001] one containerd[17160]: time="2026-11-28T11:11:03Z" level=info msg="cleaning leaked shim process" id={id}
[ 2661.000001] one containerd[17160]: time="2026-11-28T11:11:04Z" level=error msg="get state for {id}" error=closed
[ 2661.200001] one sshd-session[17117]: Accepted key
""".format(id="e245d436c03f" + "0" * 52)


def test_what_became_of_containers_is_picked_out_of_a_journal() -> None:
    assert autopsy.picked(JOURNAL) == [
        "[ 2655.1] systemd[1]: Stopping containerd.service...",
        "[ 2656.4] systemd[1]: cri-containerd-e245d436c03f.scope: Deactivated successfully.",
        '[ 2660.1] containerd[17160]: "cleaning leaked shim process" id=e245d436c03f',
        '[ 2661.0] containerd[17160]: error "get state for e245d436c03f" error=closed',
    ]
