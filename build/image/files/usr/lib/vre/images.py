"""Newer container images of this machine, and on the control machine what follows from them in the cluster."""

from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

import containers
import controlplane
import host
import member
import rollout
import turn

ROLLOUT = timedelta(minutes=15)  # for pods from newer images to be ready
Change = Callable[[rollout.Cluster, datetime], list[str]]


class Images:
    """The container images of one machine."""

    def __init__(self, host: host.Host, member: member.Member) -> None:
        self.host, self.member = host, member

    def renew(self) -> Exception | None:
        """Take newer container images; on the control machine have pods made from them. Returns what kept that."""
        places = containers.Places(root=self.host.places.root)
        works = (self.take, *((self.roll, self.follow) if self.host.places.own_api.exists() else ()))
        faults = [fault for work in works if (fault := self.fault(work, places))]
        return next((each for each in faults if not isinstance(each, host.Later)), next(iter(faults), None))

    def fault(self, work: Callable[[containers.Places], None], places: containers.Places) -> Exception | None:
        """Do it; return what kept it from being done."""
        try:
            work(places)
            return None
        except rollout.Waits as error:
            return host.Later(str(error))
        except (host.Later, host.Failed) as error:
            return error
        except (containers.Unfit, rollout.NotReady, turn.ApiError, turn.Unreachable, turn.TooLong) as error:
            return host.Failed("newer container images", str(error))

    def take(self, places: containers.Places) -> None:
        """Bring this machine the images of the newest list."""
        if containers.settle(places, host.say):
            self.host.note(renewed=host.now())

    def roll(self, places: containers.Places) -> None:
        """Have what names former images name those that stand for them now."""
        replaced = containers.standing(places)
        if changed := self.tried("put_back", sorted(replaced.values()), lambda one, end: one.roll(replaced, end)):
            self.host.note(rolled={"at": host.now(), "objects": changed})

    def follow(self, places: containers.Places) -> None:
        """Have the control plane follow to another patch level, in this machine's turn."""
        images, settings = containers.whole(places), controlplane.Places(root=self.host.places.root)
        if not settings.settings.exists() or not controlplane.behind(settings.settings.read_text(), images):
            return

        def bring(cluster: rollout.Cluster, deadline: datetime) -> list[str]:
            plane = controlplane.ControlPlane(places=settings, cluster=cluster, run=self.host.command)
            made: list[str] = []
            self.member.in_turn(lambda: made.extend(plane.bring(images, deadline)))
            return made

        if changed := self.tried("kept_back", sorted(images.values()), bring):
            self.host.note(followed={"at": host.now(), "versions": changed})

    def tried(self, name: str, images: Sequence[str], work: Change) -> list[str]:
        """Change the cluster for these images, but not where that was put back before; return what was changed."""
        before = self.host.state.get(name) or {}
        if before.get("images") == list(images):
            raise rollout.NotReady(before["said"])
        places = self.host.places
        api = turn.api(places.scratch, places.admin, places.root / "nowhere") if images else None
        if api is None:
            return []
        try:
            changed = work(rollout.Cluster(api=api, say=host.say, pause=self.host.pause), host.clock() + ROLLOUT)
        except rollout.NotReady as error:
            self.host.note(**{name: {"images": list(images), "said": str(error)}})
            raise
        self.host.note(**{name: None})
        return changed
