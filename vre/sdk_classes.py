"""Modules of a cloud's SDK that hold thousands of small classes: each is made when it is asked for.

Arguments and outputs that are parts of a resource's stand in one `_inputs` and one `outputs` for a whole service.
Python makes a class by running its body, and to run all of them takes longer than the rest of an SDK's import. Here the
module is run and its bodies are put by; a body is run when its class is asked for, with the decorator that the module
gave it.
"""

import builtins
import importlib
from collections.abc import Callable, Iterator, Mapping
from importlib.abc import InspectLoader, Loader
from types import CodeType, FunctionType, ModuleType
from typing import Any, TypedDict

import pulumi
from pulumi import _types

NAMES = ("_inputs", "outputs")
"""Modules that are made so, in each of an SDK's packages."""
DECORATORS: tuple[tuple[Callable[[type], bool], Callable[[type], type]], ...] = (
    (_types.is_input_type, pulumi.input_type),
    (_types.is_output_type, pulumi.output_type),
)
EMPTY = {"__init__": object.__init__, "__eq__": object.__eq__}
"""What a decorator would write for a class that lacks it, which takes as long as to run a body."""
CLASSES = "__classes__"
"""Where such a module keeps what it was told to make."""


class Bodies(Loader):
    """Loads a module of small classes."""

    def __init__(self, whole: InspectLoader) -> None:
        self.whole = whole

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, and no body of a class in it."""
        classes = _Classes(module)
        inside = module.__dict__
        inside["__builtins__"] = {**vars(builtins), "__build_class__": classes.put_by}
        self.whole.exec_module(module)
        inside["__builtins__"] = vars(builtins)
        classes.hide()
        inside.update({CLASSES: classes, "__getattr__": classes.find})


class Mentioned(Loader):
    """Loads a module that takes all of its package's `_inputs` by a star: it is given those that it mentions.

    Annotations mention them in texts, and Pulumi looks these up among the module's own names.
    """

    def __init__(self, whole: InspectLoader) -> None:
        self.whole = whole

    def exec_module(self, module: ModuleType) -> None:
        """Run the module, with what it mentions. Raises ImportError when there is nothing to run."""
        code = self.whole.get_code(module.__name__)
        if code is None:
            raise ImportError(f"{module.__name__} has no code", name=module.__name__)
        if "_inputs" in code.co_names:
            inputs = importlib.import_module(f"{module.__package__}._inputs")
            if CLASSES in vars(inputs):  # else it was imported before, as it is
                module.__dict__.update(vars(inputs)[CLASSES].mentioned(code))
        exec(code, module.__dict__)  # noqa: S102 - what every loader does


class _Classes:
    """The bodies of one module, by the names of their classes."""

    def __init__(self, module: ModuleType) -> None:
        self.module = module
        self.bodies: dict[str, tuple[FunctionType, tuple[Any, ...], Mapping[str, Any]]] = {}
        self.stubs: dict[str, type] = {}

    def put_by(self, body: FunctionType, name: str, *bases: Any, **more: Any) -> type:
        """Stand in for Python's own making of a class: return an empty one, for a decorator to mark."""
        self.bodies[name] = (body, bases, more)
        return type(name, (), EMPTY)

    def hide(self) -> None:
        """Take the empty classes out of the module, so that their names are asked for."""
        self.stubs = {name: self.module.__dict__.pop(name) for name in self.bodies}
        self.module.__dict__["__all__"] = []

    def find(self, name: str) -> type:
        """Return a class, made now. Raises AttributeError, as a module without it does."""
        if name not in self.bodies:
            raise AttributeError(f"module {self.module.__name__!r} has no attribute {name!r}")
        body, bases, more = self.bodies[name]
        # A function of its own, whose own classes are made by Python.
        own = FunctionType(body.__code__, self.module.__dict__, name)
        made: type = builtins.__build_class__(own, name, *bases, **more)
        for marked, decorate in DECORATORS:
            if marked(self.stubs[name]):
                made = decorate(made)
        self.module.__dict__[name] = made
        self.mentioned(body.__code__)
        return made

    def mentioned(self, code: CodeType) -> dict[str, type]:
        """Return the classes that some code mentions. What only type checkers look at is left out."""
        known = self.bodies.keys() & set(texts(code))
        return {name: getattr(self.module, name) for name in known if TypedDict not in self.bodies[name][1]}


def texts(code: CodeType) -> Iterator[str]:
    """Yield every text in some code, and in the code inside it. Pure."""
    for each in code.co_consts:
        if isinstance(each, str):
            yield each
        elif isinstance(each, CodeType):
            yield from texts(each)
