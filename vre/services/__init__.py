"""The catalogue: what can run in a VRE, one folder a service."""

from collections.abc import Mapping
from typing import Any

from vre.services.contract import Check, Context, Object, Route, SecretRequest, Service
from vre.services.jupyter.service import JUPYTER

__all__ = ["CATALOGUE", "Check", "Context", "Object", "Route", "SecretRequest", "Service"]

CATALOGUE: Mapping[str, Service[Any]] = {service.name: service for service in (JUPYTER,)}
