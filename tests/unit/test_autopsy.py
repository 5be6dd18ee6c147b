"""What is told of a launch that failed."""

from tests.machine import autopsy

PRINTED = """ +  vre:service:Door jupyter creating (30s) no answer
 +  vre:service:Door jupyter **creating failed** error: no answer
Diagnostics:
  vre:service:Door (jupyter):
    error: https://192.0.2.1/: no answer

Outputs:
    url: "https://192.0.2.1/"

Resources:
    + 20 created
"""


def test_the_engines_own_words_are_told() -> None:
    assert autopsy.reason(PRINTED) == "vre:service:Door (jupyter):\nerror: https://192.0.2.1/: no answer"


def test_without_any_the_end_of_what_was_printed_is() -> None:
    assert autopsy.reason("first\n" + "x" * 2000 + "\nkilled\n").endswith("x\nkilled")
