"""What a stack file may say about Jupyter, and what is refused."""

from typing import Any

import pytest
from pydantic import SecretStr, ValidationError

from vre.services import CATALOGUE
from vre.services.jupyter.settings import Jupyter, mebibytes


def test_nothing_needs_to_be_said_and_the_safe_value_is_the_default() -> None:
    settings = Jupyter()
    assert settings.egress == ()
    assert settings.users == ()
    assert settings.password is None


def test_closed_is_a_word_for_no_egress() -> None:
    assert Jupyter.model_validate({"egress": "closed"}) == Jupyter()


def test_words_are_joined_by_hyphens() -> None:
    assert Jupyter.model_validate({"idle-minutes": 10}).idle_minutes == 10


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"admin": "Alice"}, "a user name has"),
        ({"admin": ".."}, "a user name has"),
        ({"admin": "a..b"}, "a user name has"),
        ({"admin": "x" * 41}, "a user name has"),
        ({"users": ["bob", "bob"]}, "named twice: bob"),
        ({"users": ["admin"]}, "is the admin already"),
        ({"blocked": ["admin"]}, "cannot be blocked"),
        ({"memory": "1024"}, "write a whole number and Mi or Gi"),
        ({"memory": "128Mi"}, "too little"),
        ({"disk": "1.5Gi"}, "write a whole number and Mi or Gi"),
        ({"cpus": 0}, "greater than or equal"),
        ({"servers": 0}, "greater than or equal"),
        ({"idle-minutes": 1}, "greater than or equal"),
        ({"session-hours": 1000}, "less than or equal"),
        ({"egress": ["192.0.2.1/24"]}, "did you mean 192.0.2.0/24"),
        ({"egress": "open"}, "valid tuple"),
        ({"resolvers": ["192.0.2.53/32"]}, "lies in no network of egress"),
        ({"egress": ["192.0.2.0/24"], "resolvers": ["192.0.2.0/25"]}, "no single name server"),
        ({"egress": ["192.0.2.0/24"], "resolvers": ["2001:db8::53/128"]}, "lies in no network of egress"),
        ({"terminals": True}, "Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_is_refused_with_its_reason(given: dict[str, Any], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        Jupyter.model_validate(given)


@pytest.mark.requirement("P-37", "P-56")
def test_every_account_has_a_password_of_its_own_that_must_not_hold_its_name() -> None:
    settings = Jupyter(admin="alice", password=SecretStr("given by the stack file"), users=("bob", "carol"))
    requests = {request.name: request for request in CATALOGUE["jupyter"].secrets(settings)}
    assert set(requests) == {"password-alice", "password-bob", "password-carol", "proxy-token"}
    assert requests["password-alice"].given == settings.password
    assert requests["password-bob"].given is None
    assert all(user in requests[f"password-{user}"].hints for user in ("alice", "bob", "carol"))
    assert all(request.length >= 20 for request in requests.values())


def test_a_password_is_never_shown() -> None:
    assert "given by" not in repr(Jupyter(password=SecretStr("given by the stack file")))


def test_quantities_in_mebibytes() -> None:
    assert mebibytes("512Mi") == 512
    assert mebibytes("2Gi") == 2048
