"""The program's classes, the plugin's handlers and the schema tell of the same resources."""

import json
import subprocess
import sys

import pytest

from vre.errors import VreError
from vre.provider.registry import MODULES, handler
from vre.provider.schema import classes, schema_text

CLASSES = {made.TYPE: made for made in classes()}


def test_every_resource_has_a_class_and_every_class_a_handler() -> None:
    assert CLASSES.keys() == MODULES.keys()


@pytest.mark.parametrize("token", sorted(MODULES))
def test_handlers_know_their_type_and_their_secrets_are_secret_in_the_state(token: str) -> None:
    found = handler(token)
    assert found.token == token
    assert found.secret_outputs <= set(CLASSES[token].SECRETS)


@pytest.mark.parametrize("token", sorted(MODULES))
def test_inputs_that_replace_or_are_ignored_are_inputs(token: str) -> None:
    found = handler(token)
    inputs = json.loads(schema_text())["resources"][token]["inputProperties"]
    assert (found.replace_on | found.ignore) <= inputs.keys()
    assert not found.replace_on & found.ignore


def test_an_unknown_type_is_refused_with_those_there_are() -> None:
    with pytest.raises(VreError, match="no such resource type") as caught:
        handler("vre:nothing:Nothing")
    assert "vre:crypto:HostKey" in caught.value.hint


def test_a_handler_loads_no_other_ones_libraries() -> None:
    script = "import sys; from vre.provider.registry import handler; handler('vre:crypto:HostKey');"
    script += "print([name for name in ('libvirt', 'paramiko', 'vre.provider.libvirt') if name in sys.modules])"
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout == "[]\n"
