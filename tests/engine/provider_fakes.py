"""Resources for the tests of the plugin: files of a folder, with every way to go wrong."""

import json
import threading
from pathlib import Path
from typing import Any

from vre.errors import Finding, VreError
from vre.provider.handler import UNKNOWN, Cancelled, Context, Found, Handler, Partial, Props

MODULES = {"vre:test:Thing": "tests.engine.provider_fakes:Thing"}
STARTED = threading.Event()


class Thing(Handler):
    """A file `folder`/`name` that holds its inputs. `fail` says how a create or update goes wrong."""

    token = "vre:test:Thing"
    replace_on = frozenset({"name"})
    ignore = frozenset({"folder"})
    secret_outputs = frozenset({"made"})

    def check(self, inputs: Props) -> list[Finding]:
        """Refuse the colour green."""
        if inputs.get("fail") == "check-raises":
            raise ValueError(f"cannot check {inputs['token']}")
        if inputs.get("colour") == "green":
            return [Finding(key="colour", reason="green is taken", example="blue")]
        return []

    def normalise(self, inputs: Props) -> Props:
        """Fill in the size."""
        return {"size": 1, **inputs}

    def preview(self, inputs: Props, state: Props) -> Props:
        """Say that `made` is not known."""
        return {"made": UNKNOWN, **state, **inputs}

    def create(self, context: Context, inputs: Props) -> tuple[str, Props]:
        """Write the file."""
        self._misbehave(context, inputs)
        _file(inputs).write_text(json.dumps(inputs))
        if inputs.get("fail") == "partial":
            raise Partial(inputs["name"], {**inputs, "made": ""}, "half of it is there", hint="run it again")
        return inputs["name"], {**inputs, "made": "made-of-" + inputs["name"], "count": 3}

    def read(self, context: Context, resource_id: str, state: Props) -> Found | None:
        """Read the file; on import the id is its path."""
        file = _file(state) if state else Path(resource_id)
        if not file.exists():
            return None
        inputs: dict[str, Any] = json.loads(file.read_text())
        return Found(
            inputs={key: value for key, value in inputs.items() if key != "folder"},
            outputs={**inputs, "made": "made-of-" + inputs["name"], "count": 3},
        )

    def update(self, context: Context, resource_id: str, state: Props, inputs: Props) -> Props:
        """Write the file again."""
        self._misbehave(context, inputs)
        _file(inputs).write_text(json.dumps(inputs))
        if inputs.get("fail") == "partial":
            raise Partial(resource_id, inputs, "still only half", hint="run it again")
        return {**inputs, "made": state.get("made") or "made-of-" + inputs["name"], "count": 3}

    def delete(self, context: Context, resource_id: str, state: Props) -> None:
        """Remove the file."""
        _file(state).unlink(missing_ok=True)

    def _misbehave(self, context: Context, inputs: Props) -> None:
        context.report(f"painting {inputs['name']} with {inputs.get('token', 'nothing')}")
        if inputs.get("warn"):
            context.warn(f"{inputs['token']} does not cover well")
        match inputs.get("fail"):
            case "error":
                raise VreError(f"no paint left for {inputs.get('token')}", hint="buy some")
            case "unexpected":
                raise RuntimeError(f"login with {inputs.get('token')!r}\nfailed")
            case "exit":
                raise SystemExit(3)
            case "slow":
                STARTED.set()
                Path(inputs["folder"], "slow").touch()
                context.pause(120)
            case "slow-partial":
                _file(inputs).write_text(json.dumps(inputs))
                try:
                    context.pause(120)
                except Cancelled as cancelled:
                    raise Partial(inputs["name"], inputs, "stopped half-way") from cancelled


def _file(props: Props) -> Path:
    return Path(str(props["folder"])) / str(props["name"])
