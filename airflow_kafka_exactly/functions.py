"""The user's functions: named so that another process finds them again, and found again.

A function of an installed module is found by its name. One that is defined in a DAG file is not: Airflow loads DAG files under
made-up module names. So a reference also holds the file, and `resolve` loads that when the name does not lead anywhere.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from types import ModuleType
from typing import Any

from airflow_kafka_exactly.errors import UnknownFunction
from airflow_kafka_exactly.protocol.claims import CheckReference

_REMEDY = (
    "Give a function that is defined with `def` at the top of a module or DAG file, or its dotted path 'package.module.name'; "
    "pass arguments through the operator's _args and _kwargs."
)


def reference_of(function: Callable[..., Any] | str, dag_file: str = "") -> CheckReference:
    """How another process finds `function`. `dag_file` is the file of the DAG that uses it.

    A dotted path (`pkg.module.name` or `pkg.module:name`) is taken as it is; nothing is imported for it. `UnknownFunction` for
    a callable that only this process can call: a lambda, a nested function, a bound method, a partial, an object.
    """
    if isinstance(function, str):
        return CheckReference(path="{}:{}".format(*_split(function)), file=dag_file)
    module, name = _named(function)
    file = getattr(sys.modules.get(module), "__file__", None) or _source(function) or dag_file
    return CheckReference(path=f"{module}:{name}", file=str(file))


def resolve(reference: CheckReference) -> Callable[..., Any]:
    """The function itself. `UnknownFunction` says what was looked for, and where."""
    module_name, name = _split(reference.path)
    module = _module(module_name, reference.file)
    found: Any = module
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is None:
        where = getattr(module, "__file__", None) or module_name
        raise UnknownFunction(f"{where} has no {name!r}, which {reference.path!r} names. {_REMEDY}")
    if not callable(found):
        raise UnknownFunction(f"{reference.path!r} is {type(found).__name__}, not a function. {_REMEDY}")
    function: Callable[..., Any] = found
    return function


def _split(path: str) -> tuple[str, str]:
    module, colon, name = path.partition(":")
    if not colon:
        module, _, name = path.rpartition(".")
    # The module's name may be one that Airflow made up from a file's name; it need not be an identifier.
    if not all(module.split(".")) or not all(part.isidentifier() for part in name.split(".")):
        raise UnknownFunction(f"{path!r} is no dotted path of a function. {_REMEDY}")
    return module, name


def _named(function: Callable[..., Any]) -> tuple[str, str]:
    name, module = getattr(function, "__qualname__", ""), getattr(function, "__module__", None) or ""
    if "<lambda>" in name:
        raise UnknownFunction(f"a lambda cannot be found again by another process. {_REMEDY}")
    if "<locals>" in name:
        raise UnknownFunction(
            f"{name} is defined inside a function: another process cannot reach it. {_REMEDY}"
        )
    if not name or not module or inspect.ismethod(function) or inspect.isclass(function):
        kind = "a bound method" if inspect.ismethod(function) else f"{type(function).__name__} object"
        raise UnknownFunction(f"{function!r} ({kind}) cannot be found again by another process. {_REMEDY}")
    return module, name


def _source(function: Callable[..., Any]) -> str | None:
    try:
        return inspect.getsourcefile(function)
    except TypeError:  # a builtin
        return None


def _module(name: str, file: str) -> ModuleType:
    if name == "__main__":  # the program that made the reference, not the one that runs now
        return _load(name, file)
    if name in sys.modules:
        return sys.modules[name]
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Only when it is this module that does not exist; one that it imports may be missing as well.
        if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
            raise UnknownFunction(f"module {name!r} cannot be imported: {error}") from error
    except Exception as error:
        raise UnknownFunction(
            f"module {name!r} cannot be imported: {type(error).__name__}: {error}"
        ) from error
    return _load(name, file)


def _load(name: str, file: str) -> ModuleType:
    """The DAG file, under a name of our own: once per process and version of the file."""
    path = Path(file)
    if not file or not path.is_file():
        looked = f" and there is no file {file!r} here" if file else ""
        raise UnknownFunction(
            f"there is no module {name!r}{looked}. Put the function into a module that every Airflow process can import."
        )
    unique = sha256(f"{path.resolve()}:{path.stat().st_mtime_ns}".encode()).hexdigest()[:16]
    loaded = f"kafka_exactly_dag_{unique}_{path.stem}".replace("-", "_")
    if loaded in sys.modules:
        return sys.modules[loaded]
    spec = importlib.util.spec_from_file_location(loaded, path)
    if spec is None or spec.loader is None:
        raise UnknownFunction(f"{file!r} is no Python file that could hold {name!r}")
    module = importlib.util.module_from_spec(spec)
    sys.modules[loaded] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[loaded]
        raise UnknownFunction(f"{file!r} cannot be loaded: {type(error).__name__}: {error}") from error
    return module
