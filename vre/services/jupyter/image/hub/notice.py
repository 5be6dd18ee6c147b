"""The hub's page `notice`: tells those who are logged in, as JSON, of a reboot that is to come."""

from datetime import UTC, datetime
from typing import Any

from jupyterhub.handlers import BaseHandler
from kubespawner.clients import load_config, shared_client
from notes import Kept, Notes, told

SPACE, NAME = "kube-system", "vre-patch"
PATIENCE = 5  # seconds for the cluster's API to answer


async def read() -> Notes:
    """Return the machines' notes: annotations of the one ConfigMap outside users' namespace that the hub may read."""
    load_config()
    found = await shared_client("CoreV1Api").read_namespaced_config_map(NAME, SPACE, _request_timeout=PATIENCE)
    return found.metadata.annotations or {}


def pages(app: Any) -> list[tuple[Any, ...]]:
    """Return the page, for the hub to serve below its prefix."""
    kept = Kept(read, lambda error: app.log.warning("whether a machine is to reboot cannot be read: %s", error))
    return [("/notice", Notice, {"kept": kept})]


class Notice(BaseHandler):
    """Asked by each open page every minute, with the hub's own cookie: tokens are not taken, strangers are refused."""

    def initialize(self, kept: Kept) -> None:
        """Take what was read last."""
        self.kept = kept

    def get_content_type(self) -> str:
        """Return what is answered: JSON, no page."""
        return "application/json"

    async def get(self) -> None:
        """Answer what is to be shown, or nothing."""
        self.set_header("Cache-Control", "no-store")
        if self.current_user is None:
            self.set_status(403)
            self.finish({})
            return
        notes = await self.kept.notes()
        self.finish(told(notes, node=machine(self.current_user.spawner), now=datetime.now(UTC)))

    def _log(self) -> None:
        """Write no line for each page and minute into the hub's log."""
        if self.get_status() >= 400:
            super()._log()


def machine(spawner: Any) -> str:
    """Return the name of the machine that a user's server runs on; empty when none runs, or nobody knows."""
    seen = getattr(spawner, "pod_reflector", None)
    pod = seen.pods.get(f"{spawner.namespace}/{spawner.pod_name}") if seen else None
    return (pod["spec"].get("nodeName") or "") if pod else ""
