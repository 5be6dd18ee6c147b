"""Another patch level of the control plane: its images' tags stand in kubeadm's settings, not in objects of ours.

On the machine that it runs on, once every machine has kube-proxy's image. kubeadm writes the static pods, as for a
launch; what does not get ready is put back as it was. kubeadm's settings come last: where something breaks off, the
next run does all of it again. Another minor version is never brought: a launch knows what settings that wants.
Python's standard library only.
"""

import re
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, ClassVar

import patching
import places
import rollout

SETTINGS = {"kube-apiserver": "kubernetesVersion", "etcd": "imageTag"}
"""Which image's tag stands under which key of kubeadm's settings."""
COMPONENTS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")
PODS = "/api/v1/namespaces/kube-system/pods?labelSelector=tier%3Dcontrol-plane"
PROXY = ("DaemonSet", "kube-system", "kube-proxy")
STATIC = (("etcd", "local"), ("control-plane", "all"))
REST = (("addon", "kube-proxy"), ("upload-config", "all"))


class Places(places.Places):
    """Where things are."""

    WHERE: ClassVar[Mapping[str, str]] = {
        "settings": "etc/kubernetes/kubeadm.yaml",
        "manifests": "etc/kubernetes/manifests",
        "former": "var/lib/vre/control-plane",
        "next": "run/vre/kubeadm.yaml",
    }


@dataclass(frozen=True, kw_only=True)
class ControlPlane:
    """The control plane of this machine. `run` runs a command and raises when it fails."""

    places: Places
    cluster: rollout.Cluster
    run: Callable[..., Any]

    def bring(self, images: Mapping[str, str], deadline: datetime) -> list[str]:
        """Have it run the tags of these images (short name -> reference); return what was changed.

        Raises rollout.Waits, rollout.NotReady, and what `run` and the API raise.
        """
        text = self.places.settings.read_text()
        wanted = raised(text, images)
        if wanted == text:
            return []
        self.cluster.until_everywhere({images["kube-proxy"]})
        self._keep()
        self.places.next.parent.mkdir(parents=True, exist_ok=True)
        self.places.next.write_text(wanted)
        self.places.next.chmod(0o600)
        try:
            self._go(self.places.next, tags(wanted), deadline)
        except Exception as error:  # whatever it was: half a control plane is none
            self._put_back(deadline)
            raise rollout.NotReady(f"{error}; the former control plane is back") from error
        shutil.copyfile(self.places.next, self.places.settings)
        self.places.next.unlink()
        shutil.rmtree(self.places.former)
        return [f"{name} {tag}" for name, tag in tags(wanted).items() if tag != tags(text)[name]]

    def _go(self, settings: Path, wanted: Mapping[str, str], deadline: datetime) -> None:
        for phase in STATIC:
            self._phase(settings, *phase)
        self.cluster.until(lambda: lacking(self._pods(), wanted), deadline)
        for phase in REST:
            self._phase(settings, *phase)
        self.cluster.until_ready([self._proxy()], deadline)

    def _phase(self, settings: Path, *phase: str) -> None:
        self.cluster.say(f"kubeadm: {' '.join(phase)}")
        self.run("kubeadm", "init", "phase", *phase, "--config", str(settings))

    def _keep(self) -> None:
        """Keep the static pods as they are; what an earlier run that broke off has kept is what ran before it."""
        if self.places.former.exists():
            return
        part = self.places.former.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(mode=0o700, parents=True)
        for file in self.places.manifests.glob("*.yaml"):
            shutil.copy2(file, part / file.name)
        part.rename(self.places.former)

    def _put_back(self, deadline: datetime) -> None:
        """Have the former static pods and kube-proxy run again; the settings were never changed."""
        self.cluster.say("putting the former control plane back")
        for file in self.places.former.glob("*.yaml"):
            shutil.copy2(file, self.places.manifests / file.name)
        now = tags(self.places.settings.read_text())
        self.cluster.until(lambda: lacking(self._pods(), now), deadline + rollout.AGAIN)
        for phase in REST:
            self._phase(self.places.settings, *phase)
        shutil.rmtree(self.places.former)
        self.places.next.unlink(missing_ok=True)

    def _pods(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self.cluster.api.request("GET", PODS)["items"]
        return found

    def _proxy(self) -> dict[str, Any]:
        kind, space, name = PROXY
        return {**self.cluster.api.request("GET", rollout.KINDS[kind].format(space, name)), "kind": kind}


def tags(settings: str) -> dict[str, str]:
    """Return the tags that kubeadm's settings name: kube-apiserver's, which all of Kubernetes has, and etcd's. Pure."""
    places = {name: rf"^\s*{key}: *[\"']?([^\s\"']+)" for name, key in SETTINGS.items()}
    found = {name: re.search(place, settings, re.MULTILINE) for name, place in places.items()}
    return {name: told[1] for name, told in found.items() if told}


def behind(settings: str, images: Mapping[str, str]) -> bool:
    """Say whether kubeadm's settings name a former patch level. Pure."""
    return raised(settings, images) != settings


def raised(settings: str, images: Mapping[str, str]) -> str:
    """Return kubeadm's settings with the tags of these images, where they are a higher patch level. Pure."""
    for name, tag in tags(settings).items():
        wanted = images.get(name, "").partition("@")[0].rpartition(":")[2]
        if wanted and patching.follows(tag, wanted):
            place = rf"^(\s*{SETTINGS[name]}: *)[\"']?{re.escape(tag)}[\"']?$"
            settings = re.sub(place, rf"\g<1>{wanted}", settings, flags=re.MULTILINE)
    return settings


def lacking(pods: list[dict[str, Any]], wanted: Mapping[str, str]) -> str:
    """Say which part of the control plane does not run with its tag; nothing where all do. Pure."""
    up = {
        each["metadata"]["labels"].get("component"): each["spec"]["containers"][0]["image"].rpartition(":")[2]
        for each in pods
        if all(one.get("ready") for one in each.get("status", {}).get("containerStatuses") or [{}])
    }
    tag = {name: wanted.get(name, wanted["kube-apiserver"]) for name in COMPONENTS}
    return ", ".join(f"{name} {tag[name]} is not up" for name in COMPONENTS if up.get(name) != tag[name])
