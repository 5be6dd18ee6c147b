"""What every notebook server reads, in place of the image's own folder: nothing else is switched on. Pure."""

import json
from importlib.resources import files

from vre.services.contract import Object
from vre.services.jupyter.names import USERS
from vre.services.jupyter.settings import Jupyter
from vre.services.kubernetes import thing

FOLDER = "/opt/jupyter/etc/jupyter"
EXTENSIONS = "labextensions"
FILES = {
    "jupyter_server_config.json": "jupyter_server_config.json",
    "page_config.json": "labconfig/page_config.json",
    "notice.json": f"{EXTENSIONS}/vre-notice/package.json",
    "notice.js": f"{EXTENSIONS}/vre-notice/notice.js",
}
"""Where in the folder each file of the ConfigMap lies. None of the extension is in a folder `static`: the server has
browsers keep what is there for a year."""


def config(settings: Jupyter) -> Object:
    """Return the ConfigMap that is mounted into every user's pod."""
    whole = {"jupyter_server_config.json": _server(settings), "page_config.json": _page(), "notice.json": _extension()}
    data = {name: json.dumps(each, indent=2) for name, each in whole.items()}
    data["notice.js"] = files("vre.services.jupyter").joinpath("image", "notebook", "notice.js").read_text()
    return thing("v1", "ConfigMap", "notebook", USERS, data=data)


def _server(settings: Jupyter) -> Object:
    return {
        "ServerApp": {
            "jpserver_extensions": {"jupyterlab": True, "jupyter_server_terminals": settings.terminal},
            "terminals_enabled": settings.terminal,
            "tornado_settings": {"xsrf_cookie_kwargs": {"secure": True}},
        },
        "LabApp": {
            "extension_manager": "readonly",
            "extra_labextensions_path": [f"{FOLDER}/{EXTENSIONS}"],
            "news_url": None,
            "check_for_updates_class": "jupyterlab.handlers.announcements.NeverCheckForUpdate",
        },
        "HubOAuth": {"cache_max_age": 60},
    }


def _page() -> Object:
    return {
        "disabledExtensions": {
            "@jupyterlab/apputils-extension:announcements": True,
            "@jupyterlab/extensionmanager-extension": True,
            "@jupyterlab/lsp-extension": True,
        }
    }


def _extension() -> Object:
    """Return what tells JupyterLab of the extension, as its builder would write it."""
    built = {"load": "notice.js", "extension": "./extension"}
    return {"name": "vre-notice", "version": "1.0.0", "jupyterlab": {"extension": True, "_build": built}}
