"""The Pulumi program: one stack file, one research environment."""

import gc

import pulumi

from vre.errors import VreError


def main() -> None:
    """Declare the stack. What is imported and declared stays to the end: to look through it for garbage, again and
    again while it grows, takes a quarter and more of the time in which a cloud's packages are imported.
    """
    gc.disable()
    try:
        from vre import quiet
        from vre.launch import launch

        quiet.hush()
        launch()
    except VreError as error:
        # The engine prints a RunError's message alone; anything else would be a traceback.
        raise pulumi.RunError(str(error)) from None
    finally:
        gc.freeze()
        gc.enable()


main()
