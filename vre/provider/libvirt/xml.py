"""Building and reading libvirt's XML: elements only, never pasted strings."""

from collections.abc import Callable
from typing import Any
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

from vre.provider.handler import Props


def node(tag: str, *children: Element | str | None, **attributes: str | int | None) -> Element:
    """Return an element. A string child is its text; None children and attributes are left out.

    An attribute that is a Python word ends in `_`, which is dropped.
    """
    names = {key.removesuffix("_"): str(value) for key, value in attributes.items() if value is not None}
    made = Element(tag, names)
    for child in children:
        if isinstance(child, str):
            made.text = child
        elif child is not None:
            made.append(child)
    return made


def text(element: Element) -> str:
    """Return an element as libvirt takes it."""
    return ElementTree.tostring(element, encoding="unicode")


def parse(document: str) -> Element:
    """Return the root of a document that libvirt gave."""
    return ElementTree.fromstring(document)  # noqa: S314 the hypervisor's own words


def attribute(root: Element, path: str, name: str, default: str = "") -> str:
    """Return an attribute of the first element at a path."""
    found = root.find(path)
    return default if found is None else found.get(name, default)


def drifted(state: Props, meant: Element, live: Element, describe: Callable[[Element], Props]) -> dict[str, Any]:
    """Return the inputs of a state, with those that the live XML contradicts as they are there.

    Both sides go through `describe`, so what libvirt adds or spells in another way is no drift.
    """
    wanted, found = describe(meant), describe(live)
    return {**state, **{key: value for key, value in found.items() if wanted.get(key) != value}}
