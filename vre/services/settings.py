"""Which services a stack file may ask for, and what it may say of each."""

from pydantic import Field

from vre.model import Model
from vre.services.jupyter.settings import Jupyter


class Services(Model):
    """The services of a VRE. A service that is not named does not run."""

    jupyter: Jupyter | None = Field(
        default=None, description="Notebooks: JupyterHub, one pod a user", examples=[{"admin": "researcher"}]
    )
