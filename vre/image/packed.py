"""The software of a machine as one archive, for machines that started from Debian's own image."""

import json
import shutil
from pathlib import Path

from vre.artifacts.containers import Containers
from vre.image import bake, importer, listing, root
from vre.image.recipe import Recipe
from vre.machine.software import HOME
from vre.progress import Report
from vre.run import run

TAR = "software.tar.zst"
SCRIPT = Path(__file__).with_name("adopt.py")


def pack(folder: Path, recipe: Recipe, packages: Path, containers: Containers, report: Report) -> None:
    """Write the archive into `folder`: files in their places, packages and container images beside the script."""
    report("packing the software of machines")
    tree = folder / "tree"
    home = tree / HOME
    home.mkdir(parents=True)
    root.lay(tree, recipe)
    for name in [name for name in _names(tree) if name.startswith(recipe.boot_files)]:
        (tree / name).unlink()
    shutil.copytree(packages, home / "packages", copy_function=_link)
    shutil.copytree(containers.layout, home / "layout", copy_function=_link)
    for script in (SCRIPT, Path(importer.__file__)):
        shutil.copyfile(script, home / script.name)
    (home / "task.json").write_text(json.dumps(task(recipe, containers), indent=1, sort_keys=True))
    (tree / bake.NAMES).parent.mkdir(parents=True)
    for place in (tree / bake.NAMES, folder / Path(bake.NAMES).name):
        place.write_text(bake.listing(containers.references))
    (folder / "packages.json").write_text(listing.text(""))  # Debian's packages are the machine's own
    owner = ["--owner=0", "--group=0", "--numeric-owner", "--sort=name", "--mtime=@0"]
    run(["tar", "--create", "--zstd", *owner, "--directory", tree, "--file", folder / TAR, "."], timeout=1800)
    shutil.rmtree(tree)


def task(recipe: Recipe, containers: Containers) -> dict[str, object]:
    """Return what the script on the machine has to do beyond unpacking. Pure."""
    return {
        "accounts": list(recipe.accounts),
        "folders": {name: [f"{each.mode:04o}", each.owner] for name, each in recipe.folders.items()},
        "overrides": root.overrides(recipe),
        "enable": list(recipe.enable),
        "images": bake.names(containers),
    }


def _names(tree: Path) -> list[str]:
    return [str(path.relative_to(tree)) for path in tree.rglob("*") if path.is_file()]


def _link(source: str, target: str) -> None:
    Path(target).hardlink_to(source)
