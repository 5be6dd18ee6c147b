"""The pod network of one machine, for containerd: there before the cluster is, so that the node is ready at once."""

import json

FOLDER = "/etc/cni/net.d"
CONFLIST = f"{FOLDER}/10-vre.conflist"
BRIDGE = "cni0"
MTU = 1420
"""An ethernet frame less WireGuard's share."""


def conflist(pods: str) -> str:
    """Return the settings for one machine's range of pod addresses, such as `10.244.0.0/24`.

    Flannel routes between machines and hides pods' addresses outside; here are only the bridge, the addresses, and
    the ports that the ingress maps.
    """
    bridge = {
        "type": "bridge",
        "bridge": BRIDGE,
        "isDefaultGateway": True,
        "ipMasq": False,
        "hairpinMode": True,
        "mtu": MTU,
        "ipam": {"type": "host-local", "ranges": [[{"subnet": pods}]], "dataDir": "/run/cni-ipam"},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True, "backend": "nftables"}
    return json.dumps({"cniVersion": "1.0.0", "name": "vre", "plugins": [bridge, ports]}, indent=2) + "\n"
