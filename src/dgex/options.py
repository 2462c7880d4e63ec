"""Options by name, as the Python functions take them: checked and put into a configuration."""

from __future__ import annotations

import dataclasses
import numbers
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    TYPE_CHECKING,
    Any,
    Literal,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

from dgex.errors import UsageError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Config = TypeVar("Config", bound="DataclassInstance")


def with_options(config: Config, options: dict[str, Any]) -> Config:
    """`config` with some of its fields replaced; a single value stands for a tuple of one.

    Raises
    ------
    UsageError
        A name in `options` is not a field of the configuration, or a value of the result is not
        one of its choices, or of another type.

    Examples
    --------
    >>> from dgex.config import PrepareConfig
    >>> with_options(PrepareConfig(), {"seed": 3}).seed
    3
    """
    known = {field.name for field in dataclasses.fields(config)}
    unknown = sorted(set(options) - known)
    if unknown:
        raise UsageError(
            f"{', '.join(unknown)}: no such option. Options are {', '.join(sorted(known))}."
        )
    hints = get_type_hints(type(config))
    values = {name: getattr(config, name) for name in known} | options
    values = {name: _of_type(name, value, hints[name]) for name, value in values.items()}
    replaced = dataclasses.replace(config, **values)
    for name, hint in hints.items():
        value = getattr(replaced, name)
        choices = _choices(hint)
        if choices and value not in choices:
            shown = ", ".join(str(choice) for choice in choices if choice is not None)
            what = name.strip("_").replace("_", " ")
            raise UsageError(f"{flag(name)} {value}: no such {what}. Choose one of {shown}.")
    return replaced


_TYPES: dict[Any, tuple[tuple[type, ...], str]] = {
    bool: ((bool,), "True or False"),
    int: ((numbers.Integral,), "a whole number"),
    float: ((numbers.Real,), "a number"),
    str: ((str,), "a text"),
    Path: ((str, Path), "a path"),
}


def _of_type(name: str, value: Any, hint: Any) -> Any:
    """The value as the type of its field asks, as far as that is a plain type or a tuple of one."""
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None and NoneType in parts:
        return None
    of_tuple = [get_args(part)[0] for part in parts if get_origin(part) is tuple]
    if of_tuple:
        single = isinstance(value, (str, Path, numbers.Number)) or value is None
        values = (value,) if single else tuple(value)
        return tuple(_of_type(name, one, of_tuple[0]) for one in values)
    known = [_TYPES[part] for part in parts if part in _TYPES]
    if len(known) < len([part for part in parts if part is not NoneType]):
        return value
    # True and False are numbers to Python.
    fits = any(
        isinstance(value, types) and (bool in types or not isinstance(value, bool))
        for types, _ in known
    )
    if not fits:
        wanted = " or ".join(words for _, words in known)
        raise UsageError(f"{flag(name)} {value!r}: give {wanted}.")
    return Path(value) if Path in parts and str not in parts else value


def flag(name: str) -> str:
    """The option of the command line that a field is.

    Examples
    --------
    >>> flag("for_"), flag("hidden_units")
    ('--for', '--hidden-units')
    """
    return f"--{name.strip('_').replace('_', '-')}"


def _choices(hint: Any) -> tuple[Any, ...]:
    """The values that a Literal, or a Literal or None, allows; empty for any other type."""
    if get_origin(hint) is Literal:
        return get_args(hint)
    parts = get_args(hint) if get_origin(hint) in (Union, UnionType) else ()
    literals = [part for part in parts if get_origin(part) is Literal]
    return (*get_args(literals[0]), None) if literals else ()
