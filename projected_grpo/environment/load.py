"""The environment that a profile names: `code`, or what a function of the user's own returns.

This is the one place of training that imports a module by name, so it is also where the ground truth is kept out.
"""

import sys
from importlib import import_module
from importlib.abc import MetaPathFinder
from inspect import signature
from typing import Any

from projected_grpo.environment.checked import Checked
from projected_grpo.environment.code import CodeEnvironment
from projected_grpo.environment.protocol import Environment, ProtocolError
from projected_grpo.programs.sandbox.runner import Sandbox
from projected_grpo.settings.profile import Grading, Problems

ROOM = "projected_grpo.ground_truth"  # whose protocol every ground truth imports


def load_environment(name: str, problems: Problems, grading: Grading, sandbox: type[Sandbox] = Sandbox) -> Checked:
    """`name` is `environment` of the profile; the settings of `problems` go to the user's function. Raises ProtocolError.

    Programs of `code` run in a `sandbox`.
    """
    if name == "code":
        return Checked(name, CodeEnvironment(problems.kind != "toy", grading, sandbox))
    found = call(name, "environment", problems.own)
    if not isinstance(found, Environment):
        lacking = [part for part in ("loopholes", "tasks", "prompt", "reward") if not hasattr(found, part)]
        raise ProtocolError(f"{name} returned {found!r:.80}, expected an Environment; derive its class from Environment and add {', '.join(lacking)}")
    return Checked(name, found)


def call(name: str, key: str, settings: dict) -> Any:
    """What the function behind `module:function` returns. `key` is that of the profile. Raises ProtocolError where there is none."""
    module, _, function = name.partition(":")
    try:
        loaded = import_module(module)
    except ProtocolError:
        raise
    except Exception as error:  # whatever a module of the user's own raises as it is imported
        raise ProtocolError(
            f"{key} is {name}, and the module {module} cannot be imported: {type(error).__name__}: {error}; mend {key} in the profile, install what is missing, "
            "or run from the folder that holds the module"
        ) from error
    if not callable(made := getattr(loaded, function, None)):
        raise ProtocolError(f"{key} is {name}, and the module {module} has no function {function}; define it, or mend {key} in the profile")
    try:
        signature(made).bind(**settings)
    except TypeError as error:
        raise ProtocolError(f"{name}: {function}() does not take the settings of problems: {error}; name its arguments as the profile names the keys") from error
    return made(**settings)


class _Refused(MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: Any = None) -> None:
        if name == ROOM or name.startswith(f"{ROOM}."):
            raise ProtocolError(f"training imported {name}; what training reads cannot know the ground truth: move it to a module that the environment does not import")


def refuse_ground_truth() -> None:
    """From here on, this process cannot import the room of the ground truth, and so no ground truth, whoever wrote it."""
    if loaded := [name for name in sys.modules if name == ROOM or name.startswith(f"{ROOM}.")]:
        raise ProtocolError(f"training has imported {loaded[0]}; move it to a module that the environment does not import")
    sys.meta_path.insert(0, _Refused())
