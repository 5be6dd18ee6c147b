"""The plugin's executable: starts, prints its port and nothing else, serves, ends with the engine that started it."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest
from google.protobuf.empty_pb2 import Empty
from pulumi.runtime.proto import ResourceProviderStub
from pulumi.runtime.proto import provider_pb2 as proto

from vre import __version__, paths
from vre.provider.values import sent

PLUGIN = paths.project() / "vre" / "provider" / "pulumi-resource-vre"


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    environment = {**os.environ, "VRE_TEST_HANDLERS": "tests.engine.provider_fakes"}
    started = subprocess.Popen(
        [PLUGIN, "127.0.0.1:1", "--logtostderr"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=tmp_path,
        env=environment,
    )
    yield started
    started.kill()
    started.communicate()


def port(plugin: "subprocess.Popen[str]") -> int:
    assert plugin.stdout is not None
    return int(plugin.stdout.readline())


@pytest.mark.timeout(60)
def test_plugin_answers_over_grpc(plugin: "subprocess.Popen[str]", tmp_path: Path) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{port(plugin)}") as channel:
        stub = ResourceProviderStub(channel)
        assert stub.GetPluginInfo(Empty()).version == __version__
        request = proto.CreateRequest(
            urn="urn:pulumi:dev::vre::vre:test:Thing::thing", properties=sent({"folder": str(tmp_path), "name": "a"})
        )
        assert stub.Create(request).id == "a"


@pytest.mark.timeout(60)
def test_large_partial_results_reach_the_engine(plugin: "subprocess.Popen[str]", tmp_path: Path) -> None:
    inputs = {"folder": str(tmp_path), "name": "a", "fail": "partial", "text": "x" * 500_000}
    with grpc.insecure_channel(f"127.0.0.1:{port(plugin)}", options=[("grpc.max_metadata_size", 1 << 24)]) as channel:
        request = proto.CreateRequest(urn="urn:pulumi:dev::vre::vre:test:Thing::thing", properties=sent(inputs))
        with pytest.raises(grpc.RpcError, match="half of it is there"):
            ResourceProviderStub(channel).Create(request)


@pytest.mark.timeout(60)
def test_plugin_ends_when_its_engine_is_gone() -> None:
    script = f"import subprocess; p = subprocess.Popen([{str(PLUGIN)!r}, '127.0.0.1:1'], stdout=subprocess.PIPE);"
    script += "p.stdout.readline(); print(p.pid)"
    engine = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    pid = int(engine.stdout)
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        time.sleep(0.05)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_plugin_ends_by_itself_when_the_engine_says_so(plugin: "subprocess.Popen[str]", number: signal.Signals) -> None:
    port(plugin)
    plugin.send_signal(number)
    assert plugin.wait() == 0
    assert plugin.stderr is not None
    assert plugin.stderr.read() == ""
