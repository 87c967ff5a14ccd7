"""What can be told of a middleware before any event: whether it is declared as the contract says.

The configuration's check and ``check_contract`` both ask here, so that neither starts what the
other refuses.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Final

from pydantic import BaseModel

from middleware.contract import Middleware, SharedMiddleware
from middleware.errors import FAULTS, ConfigurationError, in_words

ARGUMENTS: Final = {
    "__init__": ("params",),
    "handle": ("event",),
    "handle_batch": ("batch",),
    "explain": ("event",),
    "open": (),
    "close": (),
    "snapshot": (),
    "restore": ("state",),
}
"""The methods that Penstock calls, and what it passes to each."""


def check_declaration(cls: type[Middleware]) -> None:
    """Raise ConfigurationError, with a line for each thing in which a class breaks the contract."""
    problems = list(_problems(cls))
    if problems:
        raise ConfigurationError("\n".join(f"{cls.__name__}: {problem}" for problem in problems))


def check_instance(middleware: Middleware) -> None:
    """Raise ConfigurationError where a new instance was half made, or reads what is no field."""
    name = type(middleware).__name__
    if not {"params", "_counts"} <= vars(middleware).keys():
        message = f"{name}: __init__ does not begin with super().__init__(params): write that line"
        raise ConfigurationError(message)
    try:
        reads: object = middleware.reads
    except FAULTS as error:
        message = f"{name}: reads raises {in_words(error)}"
        raise ConfigurationError(message) from error
    if problem := _wrong_reads(reads):
        raise ConfigurationError(f"{name}: {problem}")


def _problems(cls: type[Middleware]) -> Iterator[str]:
    if cls.handle is Middleware.handle and not cls.has_batch_form():
        yield "has neither handle nor handle_batch: define one of them"
    for name, arguments in ARGUMENTS.items():
        if problem := wrong_method(cls, name, arguments):
            yield problem
    params: object = cls.Params
    if not (isinstance(params, type) and issubclass(params, BaseModel)):
        yield "Params is no pydantic model: write class Params(BaseModel)"
    yield from _wrong_memory(cls)
    reads = inspect.getattr_static(cls, "reads")
    if inspect.isfunction(reads):
        yield "reads is a method: write @property above it"
    elif not isinstance(reads, property) and (problem := _wrong_reads(reads)):
        yield problem


def wrong_method(cls: type, name: str, arguments: tuple[str, ...]) -> str | None:
    """Return why Penstock cannot call a method of this class; None where it can, or may."""
    method = inspect.getattr_static(cls, name, None)
    if method is None:
        return None
    call = f"def {name}({', '.join(('self', *arguments))})"
    plain = getattr(method, "__func__", method)  # of a staticmethod, a classmethod
    if inspect.iscoroutinefunction(plain) or inspect.isasyncgenfunction(plain):
        return f"{name} is async, and nobody would wait for it: write {call}"
    if inspect.isgeneratorfunction(plain):
        return f"{name} yields, where it must return: write return"
    if not callable(getattr(cls, name)):
        return f"{name} is {type(method).__name__}, not a method: write {call}"
    passed = (None, *arguments) if inspect.isfunction(method) else arguments
    try:
        signature = inspect.signature(getattr(cls, name))
    except (TypeError, ValueError):  # of what is not written in Python
        return None
    try:
        signature.bind(*passed)
    except TypeError:
        return f"{name}{signature} cannot be called as Penstock does: write {call}"
    return None


def _wrong_memory(cls: type[Middleware]) -> Iterator[str]:
    remembers = issubclass(cls, SharedMiddleware)
    if inspect.getattr_static(cls, "shared") is not remembers:
        what = "derive from SharedMiddleware" if not remembers else "derive from Middleware"
        yield f"shared is set by hand: leave it out, and {what}"
    if not issubclass(cls, SharedMiddleware):
        return
    for name in ("snapshot", "restore"):
        if getattr(cls, name) is getattr(SharedMiddleware, name):
            why = "without it nothing remembered outlives this process"
            yield f"has no {name}, and {why}: define it, or derive from Middleware"


def _wrong_reads(reads: object) -> str | None:
    """Return what is wrong with ``reads``, and what to write; None if nothing is."""
    must = "reads must be a tuple of field names"
    if isinstance(reads, str):
        return f'{must}: write reads = ("{reads}",)'
    if isinstance(reads, list | set | frozenset) and all(isinstance(each, str) for each in reads):
        names = list(reads) if isinstance(reads, list) else sorted(reads)
        written = ", ".join(f'"{each}"' for each in names)
        return f"{must}: write reads = ({written}{',' * (len(names) == 1)})"
    if not isinstance(reads, tuple):
        return f"{must}, not {type(reads).__name__}; leave it out to read whole events"
    for each in reads:
        if not isinstance(each, str) or not each or not _is_unicode(each):
            return f"{must}: {each!r} is none"
    return None


def _is_unicode(text: str) -> bool:
    return text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text)
