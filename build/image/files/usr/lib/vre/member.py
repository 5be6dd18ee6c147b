"""This machine as a node of its cluster: its turn, drained before it reboots, taking pods again when it is back."""

import socket
from collections.abc import Callable, Sequence
from datetime import timedelta

import host
import patching
import turn

NOTICE = timedelta(minutes=5)  # users are told so long before a reboot
DRAIN = timedelta(minutes=15)
BACK = timedelta(minutes=30)  # for a node to be ready after a reboot, on an emulated processor
TURN = timedelta(minutes=30)  # for others to end their turns, where only services start anew


class Member:
    """The part that a machine has in its cluster."""

    def __init__(self, host: host.Host) -> None:
        self.host = host

    def node(self) -> turn.Node | None:
        """Return this machine as a node; None when it is in no cluster."""
        places = self.host.places
        api = turn.api(places.scratch, places.kubeconfig, places.rotated)
        if api is None:
            return None
        name = str(self.host.settings.get("name") or socket.gethostname())
        return turn.Node(name=name, api=api, boot=self.host.boot, say=host.say, pause=self.host.pause)

    def in_turn(self, work: Callable[[], object]) -> None:
        """Do what no two machines of the cluster should at once, and see that the node is ready afterwards."""
        alone = bool(self.host.settings.get("alone"))
        node: turn.Node | None = None
        try:
            node = self.node()
            # It may be held since a run whose node did not become ready: what is to be installed may mend that.
            if node is not None and not alone and not self.host.state.get("turn"):
                node.take(host.clock() + TURN)
                self.host.note(turn=True)
        except turn.TooLong as error:
            raise host.Later(str(error)) from error
        except turn.Unreachable as error:
            host.say(f"without a turn: {error}")  # what is broken may be what the upgrade mends
            node = None
        work()
        if node is not None:
            node.until_ready(host.clock() + BACK)
            if self.host.state.get("turn"):
                self.release(node)

    def drain(self, node: turn.Node, why: Sequence[str]) -> None:
        """Take the turn, take no more pods, have those there go. What does not go keeps the machine as it was."""
        _, end = patching.opening(self.host.window, host.clock())
        try:
            node.take(end)
        except turn.TooLong as error:
            raise host.Later(str(error)) from error
        # Noted before it is done: when the answer is lost, or power, the cordon is still known as ours. One that is
        # there already is somebody else's, and left to them.
        ours = bool(self.host.state.get("cordoned")) or not node.cordoned()
        self.host.note(turn=True, doing="draining", cordoned=ours)
        node.cordon()
        if node.has_users() and self.announce(node, why, others=True):
            self.host.pause(NOTICE.total_seconds())
        try:
            node.drain(host.clock() + DRAIN)
        except turn.TooLong as error:
            self.release(node)
            raise host.Failed("drain", str(error)) from error

    def announce(self, node: turn.Node, why: Sequence[str], *, others: bool) -> bool:
        """Have users told in Jupyter. Returns whether it was noted; when not, what follows is done all the same."""
        try:
            node.announce(host.clock() + NOTICE, ", ".join(why), others=others)
        except (turn.ApiError, turn.Unreachable) as error:
            host.say(f"users are not told in Jupyter: {error}")  # the cluster may be what the reboot mends
            return False
        return True

    def come_back(self) -> None:
        """Be a node again after a reboot, or after a run that was broken off."""
        if self.host.state.get("turn") or self.host.state.get("cordoned"):
            node = self.node()
            if node is not None:
                node.until_ready(host.clock() + BACK)
                self.release(node)
        self.host.note(doing=None, turn=False, cordoned=False)
        self.host.places.resume.unlink(missing_ok=True)

    def release(self, node: turn.Node) -> None:
        """Take pods again, if it was us who stopped that; end the turn."""
        if self.host.state.get("cordoned"):
            node.uncordon()
        node.give_back()
        self.host.note(doing=None, turn=False, cordoned=False)
