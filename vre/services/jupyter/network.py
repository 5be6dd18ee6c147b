"""Who may talk to whom around Jupyter. Whatever is not named here is refused, both ways."""

from vre.services.contract import Context, Object
from vre.services.jupyter.names import (
    API_SERVER_PORT,
    DOOR_PORT,
    HUB,
    HUB_PORT,
    PROXY,
    PROXY_API_PORT,
    SERVER_PORT,
    SPACE,
    USERS,
)
from vre.services.jupyter.settings import Jupyter
from vre.services.kubernetes import allow, block, default_deny, peer, ports

TRAEFIK = {"app.kubernetes.io/name": "traefik"}


def policies(settings: Jupyter, context: Context) -> list[Object]:
    """Return the network policies of both namespaces."""
    return [
        default_deny(SPACE),
        default_deny(USERS),
        _hub(context),
        _proxy(context),
        _users(),
        *([_outside(settings, context)] if settings.egress else []),
    ]


def _hub(context: Context) -> Object:
    machines = [_host(address) for address in context.api_servers]
    return allow(
        "hub",
        SPACE,
        HUB,
        ingress=[{"from": [peer(SPACE, PROXY), peer(USERS)], "ports": ports(HUB_PORT)}],
        egress=[
            {"to": [peer(SPACE, PROXY)], "ports": ports(PROXY_API_PORT)},
            {"to": [peer(USERS)], "ports": ports(SERVER_PORT)},
            {"to": machines, "ports": ports(API_SERVER_PORT)},
        ],
    )


def _proxy(context: Context) -> Object:
    return allow(
        "proxy",
        SPACE,
        PROXY,
        ingress=[
            {"from": [peer(context.ingress_namespace, TRAEFIK)], "ports": ports(DOOR_PORT)},
            {"from": [peer(SPACE, HUB)], "ports": ports(PROXY_API_PORT)},
        ],
        egress=[
            {"to": [peer(SPACE, HUB)], "ports": ports(HUB_PORT)},
            {"to": [peer(USERS)], "ports": ports(SERVER_PORT)},
        ],
    )


def _users() -> Object:
    """Users' pods: asked by proxy and hub, asking the hub; no DNS, no neighbour, no API server, no metadata."""
    return allow(
        "servers",
        USERS,
        {},
        ingress=[{"from": [peer(SPACE, PROXY), peer(SPACE, HUB)], "ports": ports(SERVER_PORT)}],
        egress=[{"to": [peer(SPACE, HUB)], "ports": ports(HUB_PORT)}],
    )


def _outside(settings: Jupyter, context: Context) -> Object:
    return allow("outside", USERS, {}, egress=[{"to": [block(each, context.private) for each in settings.egress]}])


def _host(address: str) -> Object:
    return {"ipBlock": {"cidr": f"{address}/{128 if ':' in address else 32}"}}
