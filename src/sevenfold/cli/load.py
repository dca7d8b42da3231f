"""From a name on the command line to a system."""

from __future__ import annotations

import linecache
import pkgutil
import sys
import traceback
from collections.abc import Callable
from dataclasses import replace
from difflib import get_close_matches
from importlib import import_module, invalidate_caches
from importlib.util import find_spec, module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import numpy as np

from sevenfold import blueprints
from sevenfold.errors import InputError, NotFoundError, SevenfoldError
from sevenfold.loop.scenario import Scenario
from sevenfold.loop.world import disturb
from sevenfold.spec.system import System
from sevenfold.types import US_PER_DAY

__all__ = ["load_scenario", "load_system", "load_system_anew", "shipped"]

_FOLDERS: set[Path] = set()
"""Where the files lie that systems were loaded from."""


def load_system(name: str) -> System:
    """The system that `name` names: one that is shipped, a Python file or a module, with `:attribute` or not.

    Raises NotFoundError when there is no such module or no system in it, InputError when the module fails
    or holds several systems, and SpecError when the declaration is wrong.
    """
    place, _, attribute = name.partition(":")
    if place in shipped():
        module = _guarded(name, lambda: import_module(f"sevenfold.blueprints.{place}.spec"))
    elif place.endswith(".py"):
        module = _guarded(name, lambda: _from_file(Path(place)))
    else:
        module = _guarded(name, lambda: _from_module(place))
    return _system_of(module, name, attribute)


def load_system_anew(name: str) -> System:
    """The system that `name` names now, though its files have changed since they were loaded.

    Modules beside its file, or of its package, are read again with it; what was made of them stays as it is.
    """
    place = name.partition(":")[0]
    linecache.checkcache()
    invalidate_caches()
    if place.endswith(".py"):
        # Of another version's folder too: its neighbours may have the names of this one's.
        below = {*_FOLDERS, Path(place).resolve().parent}
        stale = [key for key, module in sys.modules.items() if _lies(module, below)]
    else:
        top = place.partition(".")[0]
        stale = [key for key in sys.modules if key == top or key.startswith(f"{top}.")]
    if place not in shipped():
        for key in stale:
            del sys.modules[key]
    return load_system(name)


def _lies(module: ModuleType, folders: set[Path]) -> bool:
    """Whether the module is a file below one of `folders` that nobody installed."""
    file = getattr(module, "__file__", None)
    if file is None or module.__name__.partition(".")[0] in ("sevenfold", "__main__"):
        return False
    path = Path(file)
    return not folders.isdisjoint(path.parents) and "site-packages" not in path.parts


def shipped() -> list[str]:
    """The names of the systems that come with the library."""
    return sorted(found.name for found in pkgutil.iter_modules(blueprints.__path__) if found.ispkg)


def _from_file(path: Path) -> ModuleType:
    if not path.is_file():
        raise NotFoundError(
            f"there is no file {path}; give a Python file, a module, or one of {shipped()}"
        )
    spec = spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise InputError(f"{path} cannot be read as a Python file")
    # Its neighbours can be imported, as when Python runs the file; and inspect finds its functions' source.
    _FOLDERS.add(path.resolve().parent)
    sys.path.insert(0, str(path.resolve().parent))
    module = sys.modules[path.stem] = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _from_module(name: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    parts = name.split(".")
    known = all(part.isidentifier() for part in parts)
    known = known and all(find_spec(".".join(parts[: i + 1])) for i in range(len(parts)))
    if not known:
        close = get_close_matches(name, shipped(), 1)
        hint = f"did you mean {close[0]!r}?" if close else f"shipped are {', '.join(shipped())}"
        raise NotFoundError(
            f"there is no system and no module {name!r}: {hint} A file's name ends with .py"
        )
    return import_module(name)


def _guarded(name: str, load: Callable[[], ModuleType]) -> ModuleType:
    """The module; whatever the user's own code raises becomes one sentence with its place."""
    try:
        return load()
    except SevenfoldError:
        raise
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        last = [frame for frame in frames if not frame.filename.startswith("<frozen")][-1]
        place = f"{Path(last.filename).name}, line {last.lineno}"
        if isinstance(error, SyntaxError):
            place = f"{Path(error.filename or name).name}, line {error.lineno}"
        raise InputError(f"{name} fails at {place}: {type(error).__name__}: {error}") from error


def _system_of(module: ModuleType, name: str, attribute: str) -> System:
    systems = {key: value for key, value in vars(module).items() if isinstance(value, System)}
    if attribute:
        if attribute not in systems:
            raise NotFoundError(
                f"{name}: no system is named so; there are {', '.join(systems) or 'none'}"
            )
        return systems[attribute]
    different = list({id(system): system for system in systems.values()}.values())
    if not different:
        raise NotFoundError(f"{name} holds no system: assign one, system = sf.System(...)")
    if len(different) > 1:
        raise InputError(
            f"{name} holds several systems: say which by {name}:NAME, of {', '.join(systems)}"
        )
    return different[0]


def load_scenario(name: str, quick: bool, disturbed: float) -> Scenario:
    """The run of a shipped system; with `disturbed`, such a share of its rows late, doubled and swapped.

    Raises NotFoundError for a system that is not shipped.
    """
    if name not in shipped():
        raise NotFoundError(
            f"no shipped system is named {name!r}; there are {', '.join(shipped())}"
        )
    module = import_module(f"sevenfold.blueprints.{name}.scenario")
    scenario: Scenario = module.scenario(quick)
    if not disturbed:
        return scenario
    world = scenario.world
    rng = np.random.default_rng(scenario.seed)
    return replace(scenario, world=lambda: disturb(world(), disturbed, 2 * US_PER_DAY, rng))
