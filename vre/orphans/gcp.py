"""What stands on Google Cloud with a stack's labels. The same sections in the same order as every module beside it."""

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tenacity import RetryError, Retrying, retry_if_result, stop_after_delay, wait_fixed

from vre.accounts.gcp import COMPUTE, PATIENCE, session
from vre.cloud import Gcp
from vre.clouds.gcp import KEY_SECONDS, zone
from vre.clouds.rented import tags
from vre.config import Config
from vre.errors import VreError
from vre.orphans import Resource, Thing

KMS = "https://cloudkms.googleapis.com/v1"
ORDER = ("machine", "disk", "public address", "firewall rule", "NAT", "router", "subnet", "network", "key")
GONE = 404
LONGEST, PAUSE = 600.0, 2.0  # seconds for something to be gone, and between two questions


class Account:
    """What is in the project and region of a stack file, with the login of the environment."""

    order = ORDER
    plugin = "gcp"

    def __init__(self, config: Config, logged_in: Any = None) -> None:
        if not isinstance(config.cloud, Gcp):
            raise TypeError(f"not a Google Cloud stack: {config.cloud.provider}")
        self.cloud = config.cloud
        self.stack = config.name
        self.name = f"vre-{config.name}"
        with _told():
            self.session = logged_in or session(os.environ)

    def standing(self) -> list[Thing]:
        """Return everything with the stack's labels; what knows none is by its name, unique in a project."""
        with _told():
            return [*self._labelled(), *self._of_the_network(), *self._keys()]

    def identity(self, resource: Resource) -> str:
        """Return a resource's id."""
        return str(resource.get("id", ""))

    def delete(self, thing: Thing) -> None:
        """Delete a thing, and wait until it is gone."""
        with _told():
            if thing.kind == "key":
                for each in self._listed(f"{KMS}/{thing.id}/cryptoKeyVersions", "cryptoKeyVersions"):
                    if each["state"] in ("ENABLED", "DISABLED"):
                        self._ask(f"{KMS}/{each['name']}:destroy", method="POST", json={})
            elif thing.kind == "NAT":
                address = self._address(thing.within)
                kept = [each for each in self._ask(address).get("nats", ()) if each["name"] != thing.name]
                self._done(self._ask(address, method="PATCH", json={"nats": kept}))
            else:
                self._done(self._ask(self._address(thing.id), method="DELETE"))

    def _labelled(self) -> Iterator[Thing]:
        own = self.cloud
        wanted = " AND ".join(f"labels.{key}={value}" for key, value in tags(self.stack).items())
        for kind, place in (
            ("machine", f"zones/{zone(own)}/instances"),
            ("disk", f"zones/{zone(own)}/disks"),
            ("public address", f"regions/{own.region}/addresses"),
        ):
            for each in self._listed(f"{COMPUTE}/{own.project}/{place}", "items", filter=wanted):
                if tags(self.stack).items() <= each.get("labels", {}).items():
                    path = f"projects/{own.project}/{place}/{each['name']}"
                    loss = f"{each['sizeGb']} GiB, and whatever data is on it" if kind == "disk" else ""
                    words = (path, str(each.get("selfLink", path))) if kind == "disk" else ()
                    yield Thing(kind=kind, id=path, name=str(each["name"]), words=words, loss=loss)

    def _of_the_network(self) -> Iterator[Thing]:
        region, whole = (
            f"projects/{self.cloud.project}/{place}" for place in (f"regions/{self.cloud.region}", "global")
        )
        for each in self._listed(self._address(f"{whole}/firewalls"), "items"):
            if str(each["network"]).endswith(f"/networks/{self.name}"):
                yield Thing(kind="firewall rule", id=f"{whole}/firewalls/{each['name']}", name=str(each["name"]))
        for kind, path in (
            ("router", f"{region}/routers"), ("subnet", f"{region}/subnetworks"), ("network", f"{whole}/networks"),
        ):  # fmt: skip
            found = self._ask(self._address(f"{path}/{self.name}"))
            if found:
                yield Thing(kind=kind, id=f"{path}/{self.name}", name=self.name)
            if any(each["name"] == self.name for each in found.get("nats", ())):
                own = f"{self.cloud.project}/{self.cloud.region}/{self.name}/{self.name}"
                yield Thing(kind="NAT", id=own, name=self.name, within=f"{path}/{self.name}")

    def _keys(self) -> Iterator[Thing]:
        place = f"{KMS}/projects/{self.cloud.project}/locations/{self.cloud.region}/keyRings"
        hours = KEY_SECONDS // 3600
        for ring in self._listed(place, "keyRings"):
            # Rings are for ever, and end with made-up signs.
            mine = str(ring["name"]).rpartition("/")[2].startswith(f"{self.name}-")
            for each in self._listed(f"{KMS}/{ring['name']}/cryptoKeys", "cryptoKeys") if mine else ():
                opens = each.get("primary", {}).get("state") == "ENABLED"
                if opens and tags(self.stack).items() <= each.get("labels", {}).items():
                    own = str(each["name"])
                    loss = f"what it encrypted cannot be read any more; for {hours} hours it can be called back"
                    yield Thing(kind="key", id=own, words=(own,), loss=loss)

    def _address(self, path: str) -> str:
        return f"{COMPUTE.removesuffix('/projects')}/{path}"

    def _listed(self, url: str, items: str, **query: str) -> Iterator[Mapping[str, Any]]:
        page = ""
        while True:
            found = self._ask(url, params={**query, **({"pageToken": page} if page else {})})
            yield from found.get(items, ())
            page = str(found.get("nextPageToken", ""))
            if not page:
                return

    def _ask(self, url: str, *, method: str = "GET", **more: Any) -> dict[str, Any]:
        """Return an answer, nothing where there is no such thing. Raises VreError for what is refused."""
        answer = self.session.request(method, url, timeout=PATIENCE, **more)
        if answer.status_code == GONE:
            return {}
        found: dict[str, Any] = answer.json()
        if answer.status_code >= 400:
            said = found.get("error", {}).get("message", answer.status_code)
            raise VreError(f"Google refuses {method} {url.rpartition('/')[2]}: {said}")
        return found

    def _done(self, operation: Mapping[str, Any]) -> None:
        """Wait for the end of what was begun. Raises VreError when it did not end well."""

        def now() -> dict[str, Any]:
            return self._ask(str(operation["selfLink"]))

        if not operation:
            return
        waiting = Retrying(
            stop=stop_after_delay(LONGEST),
            wait=wait_fixed(PAUSE),
            retry=retry_if_result(lambda it: it["status"] != "DONE"),
        )
        faults = waiting(now).get("error", {}).get("errors", ())
        if faults:
            raise VreError(f"Google did not do it: {'; '.join(str(each['message']) for each in faults)}")


@contextmanager
def _told() -> Iterator[None]:
    from google.auth.exceptions import GoogleAuthError
    from requests import RequestException

    try:
        yield
    except (GoogleAuthError, RequestException, ValueError) as error:
        raise VreError(f"no way to Google Cloud: {' '.join(str(error).split())}") from error
    except RetryError as error:
        raise VreError(f"it is still there after {LONGEST / 60:.0f} minutes") from error
