"""From the ``use`` of a configuration to a class.

A short name is a file of a package: ``adjacent`` is the one class of the wanted kind defined in
``middleware/adjacent.py``. Anything else is an import string, ``module:Class``. There is no
registry: dropping a file into the folder is all it takes.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import traceback
from pathlib import Path
from types import ModuleType
from typing import TypeVar

from middleware.contract import Middleware
from middleware.declaration import check_declaration
from middleware.errors import FAULTS, ConfigurationError, NoSuchModule, in_words
from middleware.wording import nearest, printable

Kind = TypeVar("Kind")


def load_middleware(use: str) -> type[Middleware]:
    """Return the middleware class that ``use`` names, declared as the contract says.

    Raises ConfigurationError, with a line for each thing wrong.
    """
    loaded = load_class(use, package="middleware", kind=Middleware)
    try:
        check_declaration(loaded)
    except ConfigurationError as error:
        lines = [f'use = "{use}": {line}' for line in str(error).splitlines()]
        raise ConfigurationError("\n".join(lines)) from None
    return loaded


def load_class(use: str, *, package: str, kind: type[Kind]) -> type[Kind]:
    """Return the subclass of ``kind`` that ``use`` names: a file of ``package`` or "module:Class".

    Raises ConfigurationError that says what was looked for, where, and what there is.
    """
    module_name, colon, class_name = use.partition(":")
    if not colon:
        return _load_short_name(use, package=package, kind=kind)
    if not module_name or not class_name:
        raise ConfigurationError(f'use = "{use}": an import string is written "module:Class"')
    module = _import(use, module_name)
    loaded = getattr(module, class_name, None)
    if loaded is None:
        there = ", ".join(cls.__name__ for cls in _classes(module, kind)) or "none"
        message = (
            f'use = "{use}": {module_name} has no "{class_name}" (of this kind it has: {there})'
        )
        raise ConfigurationError(message)
    if not isinstance(loaded, type) or not issubclass(loaded, kind):
        raise ConfigurationError(
            f'use = "{use}": {class_name} is not a subclass of {kind.__name__}'
        )
    return loaded


def short_names(*, package: str, kind: type) -> dict[str, list[str]]:
    """Return the short names that ``package`` offers for ``kind``, each with its classes; sorted.

    Its files are read, not imported: a broken one is nobody's business who did not name it.
    """
    found: dict[str, list[str]] = {}
    for folder in importlib.import_module(package).__path__:
        for path in sorted(Path(folder).glob("*.py")):
            classes = _declared(path, kind)
            if classes and f"{package}.{path.stem}" != kind.__module__:
                found[path.stem] = classes
    return found


def _declared(path: Path, kind: type) -> list[str]:
    """Return the public classes of a file that seem to be of a kind, by what they derive from."""
    try:
        module = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError):
        return []
    return [
        node.name
        for node in module.body
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
        if any(ast.unparse(base).endswith(kind.__name__) for base in node.bases)
    ]


def _load_short_name(use: str, *, package: str, kind: type[Kind]) -> type[Kind]:
    name = f"{package}.{use}"
    if not use.isidentifier() or importlib.util.find_spec(name) is None:
        raise ConfigurationError(f'use = "{printable(use)}": {_no_short_name(use, package, kind)}')
    classes = _classes(_import(use, name), kind)
    if not classes:
        known = ", ".join(short_names(package=package, kind=kind))
        message = f'use = "{use}": {package}/{use}.py defines no {kind.__name__} (known: {known})'
        raise ConfigurationError(message)
    if len(classes) != 1:
        there = ", ".join(cls.__name__ for cls in classes)
        message = (
            f'use = "{use}": {package}/{use}.py must define exactly one {kind.__name__}, '
            f'it defines: {there}; name the one you mean as "{name}:Class"'
        )
        raise ConfigurationError(message)
    return classes[0]


def _no_short_name(use: str, package: str, kind: type) -> str:
    """Say what ``use`` may be instead of a name that no file has."""
    known = short_names(package=package, kind=kind)
    names = {cls: name for name, classes in known.items() for cls in classes}
    guess = nearest(use.removesuffix(".py").rpartition("/")[2], [*known, *names])
    module, dot, cls = use.rpartition(".")
    if guess:
        meant = f'; did you mean "{names.get(guess, guess)}"?'
    elif dot and cls[:1].isupper() and use.replace(".", "").isidentifier():
        meant = f'; did you mean "{module}:{cls}"?'
    else:
        meant = ""
    folder = package.replace(".", "/")
    return f'neither a file of {folder}/ ({", ".join(known)}) nor "module:Class"{meant}'


def _classes(module: ModuleType, kind: type[Kind]) -> list[type[Kind]]:
    """Return the public subclasses of ``kind`` that ``module`` itself defines.

    The module of ``kind`` itself is the contract and offers none.
    """
    if module.__name__ == kind.__module__:
        return []
    return [
        thing
        for name, thing in vars(module).items()
        if isinstance(thing, type)
        and issubclass(thing, kind)
        and thing.__module__ == module.__name__
        and not name.startswith("_")
    ]


def _import(use: str, module_name: str) -> ModuleType:
    try:
        return importlib.import_module(module_name)
    except FAULTS as error:
        if isinstance(error, ModuleNotFoundError) and error.name in _prefixes(module_name):
            message = (
                f'use = "{use}": there is no module "{error.name}", neither in {_here()}, '
                "where the command was given, nor among what is installed"
            )
            raise NoSuchModule(message) from None
        message = (
            f'use = "{use}": importing {module_name} failed at {raised_at(error)}: '
            f"{in_words(error)}"
        )
        raise ConfigurationError(message) from error


def _here() -> str:
    try:
        return str(Path.cwd())
    except FileNotFoundError:
        return "the folder, now gone"


def raised_at(error: BaseException) -> str:
    """Return the file and line of the user's code that failed, not of the import machinery."""
    if isinstance(error, SyntaxError):
        return f"{error.filename}:{error.lineno}"
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith("<frozen")]
    return f"{own[-1].filename}:{own[-1].lineno}"


def _prefixes(module_name: str) -> set[str]:
    parts = module_name.split(".")
    return {".".join(parts[: count + 1]) for count in range(len(parts))}
