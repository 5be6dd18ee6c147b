"""What a change would take away, by the real engine on a simulated cloud: nobody says yes, and nothing goes."""

import sys
from pathlib import Path

from tests.engine.simulated.lifecycle import begin

CLOUD = "{{provider: gcp, project: phenome-1234, region: europe-west1, zone: europe-west1-{zone}}}"
STACK = """\
  vre:name: phenome
  vre:cloud: {cloud}
  vre:access: {{operators: [203.0.113.0/24], keys: [.vre/id_ed25519.pub]}}
  vre:edge: {{provider: direct, domain: vre.example.org}}
  vre:machines: {{workers: {{count: {workers}}}}}
  vre:services:
    jupyter: {{admin: researcher}}
"""
ASK = "import sys; from vre.cli import launch; launch.ask_before_a_loss(sys.argv[1])"


def stack(*, workers: int, zone: str = "b") -> str:
    return STACK.format(cloud=CLOUD.format(zone=zone), workers=workers)


def test_a_change_that_would_lose_data_wants_a_yes(tmp_path: Path, pulumi_program: Path) -> None:
    env = {"GOOGLE_OAUTH_ACCESS_TOKEN": "ya29.of-the-tests"}
    life = begin(tmp_path / "clone", "test", stack(workers=1), ["gcp"], env=env)
    life.up()
    before = {(thing.type, thing.id) for thing in life.cloud.resources()}

    def asked() -> tuple[int, str]:
        told = life.engine.run(sys.executable, "-c", ASK, life.stack)
        return told.code, told.text

    code, said = asked()
    assert code == 0, said
    assert "takes away" not in said
    life.configure(stack(workers=2))
    code, said = asked()
    assert code == 0, said
    life.configure(stack(workers=0))
    code, said = asked()
    assert code != 0
    for line in (
        "  Disk phenome-worker-1-data: deleted, with everything on it",
        "  Instance phenome-worker-1: deleted, with the disk that it starts from",
        "nothing was changed: nobody is here to confirm",
    ):
        assert line in said
    assert "phenome-control" not in said
    life.configure(stack(workers=1, zone="c"))
    code, said = asked()
    assert code != 0
    for line in ("Disk phenome-control-data: made anew", "Instance phenome-control: made anew"):
        assert line in said
    assert {(thing.type, thing.id) for thing in life.cloud.resources()} == before
