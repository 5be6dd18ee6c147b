"""Every kind of resource the plugin offers: one line a handler module. Imported only when the engine asks for one."""

import os
from importlib import import_module

from vre.errors import VreError
from vre.provider.handler import Handler

MODULES = {
    "vre:crypto:Authority": "vre.provider.crypto:Authority",
    "vre:crypto:Certificate": "vre.provider.crypto:Certificate",
    "vre:crypto:Request": "vre.provider.crypto:Request",
    "vre:crypto:HostKey": "vre.provider.crypto:HostKey",
    "vre:crypto:Password": "vre.provider.crypto:Password",
    "vre:crypto:AcmeCertificate": "vre.provider.acme:AcmeCertificate",
    "vre:libvirt:Network": "vre.provider.libvirt.network:Network",
    "vre:libvirt:Filter": "vre.provider.libvirt.filter:Filter",
    "vre:libvirt:Pool": "vre.provider.libvirt.pool:Pool",
    "vre:libvirt:Volume": "vre.provider.libvirt.volume:Volume",
    "vre:libvirt:Secret": "vre.provider.libvirt.secret:Secret",
    "vre:libvirt:Domain": "vre.provider.libvirt.domain:Domain",
    "vre:machine:Machine": "vre.provider.machine:Machine",
    "vre:machine:Files": "vre.provider.files:Files",
    "vre:machine:Software": "vre.provider.software:Software",
    "vre:machine:Images": "vre.provider.images:Images",
    "vre:cluster:ControlPlane": "vre.provider.kubeadm:ControlPlane",
    "vre:cluster:Node": "vre.provider.kubeadm:Node",
    "vre:cluster:Worker": "vre.provider.kubeadm:Worker",
    "vre:cluster:Objects": "vre.provider.objects:Objects",
    "vre:cloud:Capacity": "vre.provider.capacity:Capacity",
    "vre:cloudflare:Rule": "vre.provider.cloudflare:Rule",
    "vre:service:Door": "vre.provider.door:Door",
}


def handler(token: str) -> Handler:
    """Return the handler of a resource type. Raises VreError for a type this plugin does not have."""
    known = {**MODULES, **_for_tests()}
    if token not in known:
        raise VreError(f"no such resource type: {token}", hint=f"there are: {', '.join(sorted(MODULES))}")
    module, name = known[token].split(":")
    made: Handler = getattr(import_module(module), name)()
    return made


def _for_tests() -> dict[str, str]:
    """Return what the tests add: VRE_TEST_HANDLERS names a module with a table like `MODULES`."""
    module = os.environ.get("VRE_TEST_HANDLERS")
    return dict(import_module(module).MODULES) if module else {}
