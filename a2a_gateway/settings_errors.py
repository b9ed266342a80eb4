"""Describe what is wrong with settings: each by its name, with the name that was probably meant."""

from collections.abc import Collection, Iterable, Mapping
from typing import get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from delegate_tool.protocol.text import did_you_mean


def describe(error: ValidationError, model: type[BaseModel], *, names: Mapping[str, str] | None = None) -> str:
    """Describe what is wrong with the settings of a model, each by its name, in one line.

    Args:
        names: how to name the settings, where that is not their own name: by their options or variables.
    """
    return "; ".join(_describe(fault, model, names or {}) for fault in error.errors())


def _describe(error: ErrorDetails, model: type[BaseModel], names: Mapping[str, str]) -> str:
    name = location(error)
    reason = reason_of(error, _settings_at(error["loc"][:-1], model))
    return ": ".join(filter(None, (names.get(name, name), reason)))


def reason_of(error: ErrorDetails, known: Iterable[str]) -> str:
    """Return what is wrong with a setting; for an unknown one, which of the `known` it may be."""
    if error["type"] == "extra_forbidden":
        return f"there is no such setting{did_you_mean(str(error['loc'][-1]), known)}"
    return error["msg"].removeprefix("Value error, ")


def location(error: ErrorDetails) -> str:
    """Return the name of the setting that an error is about; empty if it is about several together."""
    match error["loc"]:
        case "llms", int(), str(name), *rest:  # an entry with a name needs no number
            return ".".join(map(str, ("llms", name, *rest)))
        case location:
            return ".".join(map(str, location))


def _settings_at(loc: tuple[int | str, ...], model: type[BaseModel]) -> Collection[str]:
    """Return the names of the settings in the table at a location, such as those of the first of `peers`."""
    for step in loc:
        field = model.model_fields.get(str(step))
        if field is not None:  # else the step is the index of a list, or a key of a table
            model = _model_in(field.annotation) or model
    return model.model_fields


def _model_in(annotation: object) -> type[BaseModel] | None:
    """Return the model that an annotation names, or has in its arguments."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(filter(None, map(_model_in, get_args(annotation))), None)
