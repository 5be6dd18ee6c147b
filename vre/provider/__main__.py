"""`python -m vre.provider ENGINE-ADDRESS`: the plugin's process."""

import logging
import os
import sys
import warnings


def _main() -> None:
    if not os.environ.get("VRE_DEBUG"):
        warnings.simplefilter("ignore")
    logging.getLogger().addHandler(logging.NullHandler())
    from vre.provider.server import main

    addresses = [word for word in sys.argv[1:] if not word.startswith("-")]
    main(addresses[0] if addresses else "")


if __name__ == "__main__":
    _main()
