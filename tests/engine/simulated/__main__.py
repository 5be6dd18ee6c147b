"""`python -m tests.engine.simulated MODULE ENGINE-ADDRESS`: the process of a simulated cloud's plugin."""

import sys
from functools import partial
from importlib import import_module

from tests.engine.simulated.servicer import Simulator
from tests.engine.simulated.table import Provider
from vre.provider.server import main


def _main() -> None:
    module, *words = sys.argv[1:]
    addresses = [word for word in words if not word.startswith("-")]
    provider = import_module(module).PROVIDER
    make = partial(Simulator, provider()) if issubclass(provider, Provider) else provider
    main(addresses[0] if addresses else "", make)


if __name__ == "__main__":
    _main()
