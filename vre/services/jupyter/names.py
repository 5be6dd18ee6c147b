"""Names, addresses and ports of Jupyter's parts: what its modules agree on."""

from ipaddress import ip_network

from vre.services.contract import Context
from vre.services.kubernetes import labels

SPACE = "jupyter"
USERS = "jupyter-users"
HUB = labels("jupyter", "hub")
PROXY = labels("jupyter", "proxy")
HUB_PORT = 8081
DOOR_PORT = 8000
PROXY_API_PORT = 8001
SERVER_PORT = 8888
API_SERVER_PORT = 6443
UID = 1000


def hub_address(context: Context) -> str:
    """Return the hub's fixed address in the cluster: it lets users' pods do without DNS, which is a way out."""
    return str(ip_network(context.service_network)[80])


def proxy_address(context: Context) -> str:
    """Return the fixed address of the proxy's API."""
    return str(ip_network(context.service_network)[81])
