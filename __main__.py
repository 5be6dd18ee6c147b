"""The Pulumi program: one stack file, one research environment."""

import pulumi

from vre.errors import VreError
from vre.launch import launch

try:
    launch()
except VreError as error:
    # The engine prints a RunError's message alone; anything else would be a traceback.
    raise pulumi.RunError(str(error)) from None
