"""The reboot of this machine, when what runs is no longer what is installed."""

import contextlib
import os
from collections.abc import Sequence

import host
import member
import patching
import turn


class Reboot:
    """The reboot of one machine."""

    def __init__(self, host: host.Host, member: member.Member) -> None:
        self.host, self.member = host, member

    def when_due(self) -> None:
        """Reboot inside the window; outside it, be called again when it opens."""
        wanted = self.host.state.get("reboot")
        if not wanted:
            return
        vain = patching.in_vain(self.host.state, boot=self.host.boot, why=wanted["why"])
        if vain:
            raise host.Failed("systemctl reboot", f"the machine was rebooted, and still: {vain}")
        if self.host.settings.get("reboot", "window") == "by-hand":
            host.say(f"a reboot is wanted, and left to people: {', '.join(wanted['why'])}")
        elif patching.is_open(self.host.window, host.clock()):
            self.go_down(wanted["why"])
        else:
            begin, _ = patching.opening(self.host.window, host.clock())
            host.say(f"a reboot waits for {begin.isoformat()}")
            self.host.again(begin)

    def go_down(self, why: Sequence[str]) -> None:
        """Reboot: drained and in its turn where there are other machines, announced where there are none."""
        node = self.member.node()
        text = f"This machine reboots for an upgrade ({', '.join(why)})"
        alone = node is None or bool(self.host.settings.get("alone"))
        try:
            if node is not None and not alone:
                self.member.drain(node, why)
        except turn.Unreachable:
            if not self.host.places.own_api.exists():
                raise  # elsewhere the cluster may be well, and would lose another machine
        if node is not None:
            with contextlib.suppress(turn.ApiError, turn.Unreachable):  # only for people to read
                node.event("Rebooting", text)
        if alone and node is not None:
            self.member.announce(node, why, others=False)
            self.host.command("wall", f"{text} in {member.NOTICE.seconds // 60} minutes.", accept=(0, 1))
            self.host.pause(member.NOTICE.total_seconds())
        self.host.note(doing="rebooting", rebooted={"boot": self.host.boot, "why": list(why), "at": host.now()})
        self.host.places.resume.touch()
        os.sync()
        host.say(text)
        self.host.command("systemctl", "reboot")
