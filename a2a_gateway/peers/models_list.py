"""Parse the models that a peer lists, as OpenAI, gateways and home-made servers write them. Pure."""

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Annotated, Final

from pydantic import BaseModel, BeforeValidator, Field, PositiveInt, ValidationError, ValidatorFunctionWrapHandler, WrapValidator

_MOST_MODELS: Final = 500


def _or_none(value: object, read: ValidatorFunctionWrapHandler) -> object:
    try:
        return read(value)
    except ValidationError:
        return None


def _number_as_text(value: object) -> object:
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


type _UsdPerToken = Annotated[Decimal, Field(ge=0, le=10**3, allow_inf_nan=False)]


class ListedPrice(BaseModel):
    """What a token costs, as OpenRouter lists it."""

    prompt: _UsdPerToken
    completion: _UsdPerToken


class ListedModel(BaseModel):
    """A model as a peer lists it. What cannot be read beside its id is left out."""

    id: Annotated[str, BeforeValidator(_number_as_text)]
    description: Annotated[str | None, WrapValidator(_or_none)] = None
    context_length: Annotated[PositiveInt | None, WrapValidator(_or_none)] = None
    pricing: Annotated[ListedPrice | None, WrapValidator(_or_none)] = None


def parse_models(listed: object) -> Sequence[ListedModel]:
    """Parse a list of models; those that cannot be read are left out.

    Raises:
        ValueError: it is no such list, or has no model that can be read.
    """
    items = listed.get("data") if isinstance(listed, Mapping) else listed
    if not isinstance(items, list):
        raise ValueError("it does not list its models as OpenAI does")
    models = [model for item in items[:_MOST_MODELS] if (model := _parse_model(item)) is not None]
    if items and not models:
        raise ValueError("it does not list its models as OpenAI does")
    return models


def _parse_model(item: object) -> ListedModel | None:
    try:
        return ListedModel.model_validate({"id": item} if isinstance(item, str) else item)
    except ValidationError:
        return None
