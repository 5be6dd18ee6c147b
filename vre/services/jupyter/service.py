"""Jupyter's entry in the catalogue."""

from typing import Any

from vre.services.contract import Check, Context, Route, SecretRequest, Service
from vre.services.jupyter.manifest import objects, secret_name
from vre.services.jupyter.names import DOOR_PORT, SPACE, USERS
from vre.services.jupyter.settings import Jupyter


def _secrets(settings: Jupyter) -> tuple[SecretRequest, ...]:
    admin = SecretRequest(
        name=secret_name(settings.admin),
        why=f"password of Jupyter's admin {settings.admin}",
        given=settings.password,
        hints=(settings.admin, "jupyter"),
    )
    users = (
        SecretRequest(name=secret_name(user), why=f"first password of {user}", hints=(user, "jupyter"))
        for user in settings.users
    )
    token = SecretRequest(name="proxy-token", why="the hub's key to the proxy", length=48)
    return (admin, *users, token)


def _route(context: Context) -> Route:
    return Route(path=context.base, namespace=SPACE, service="proxy", port=DOOR_PORT)


def _check(context: Context) -> Check:
    return Check(path=f"{context.base}hub/login", status=200, text="Sign in")


def _outputs(settings: Jupyter, context: Context) -> dict[str, Any]:
    passwords = {user: context.secrets[secret_name(user)] for user in (settings.admin, *settings.users)}
    return {"url": f"https://{context.host}{context.base}", "admin": settings.admin, "passwords": passwords}


JUPYTER = Service(
    name="jupyter",
    title="JupyterHub",
    settings=Jupyter,
    images=("jupyterhub", "jupyter-proxy", "jupyter-notebook"),
    namespaces=(SPACE, USERS),
    secrets=_secrets,
    objects=objects,
    ready=(
        {"kind": "Deployment", "name": "proxy", "namespace": SPACE},
        {"kind": "Deployment", "name": "hub", "namespace": SPACE},
    ),
    route=_route,
    check=_check,
    outputs=_outputs,
)
