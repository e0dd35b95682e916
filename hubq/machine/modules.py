"""Folders of Python files that are found by their names: a file is what it is called."""

from collections.abc import Iterable
from importlib import import_module
from pkgutil import iter_modules
from typing import TypeVar

Kind = TypeVar("Kind")


def files_in(path: Iterable[str]) -> list[str]:
    """List the modules of a package by its `__path__`, sorted, without its folders."""
    return sorted(each.name for each in iter_modules(path) if not each.ispkg)


def class_in(module: str, kind: type[Kind]) -> type[Kind]:
    """Import a module and return the one class of a kind that it defines."""
    (found,) = (
        value
        for value in vars(import_module(module)).values()
        if isinstance(value, type) and issubclass(value, kind) and value.__module__ == module
    )
    return found
