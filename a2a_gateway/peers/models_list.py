"""Parse a peer's list of models, in the variants of OpenAI, gateways and other servers. Pure."""

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
    """What a token costs, in the format of OpenRouter."""

    prompt: _UsdPerToken
    completion: _UsdPerToken


class ListedModel(BaseModel):
    """A model of a peer's list. A malformed field other than the id is left out."""

    id: Annotated[str, BeforeValidator(_number_as_text)]
    description: Annotated[str | None, WrapValidator(_or_none)] = None
    context_length: Annotated[PositiveInt | None, WrapValidator(_or_none)] = None
    pricing: Annotated[ListedPrice | None, WrapValidator(_or_none)] = None


def parse_models(listed: object) -> Sequence[ListedModel]:
    """Parse a list of models. Malformed models are left out.

    Raises:
        ValueError: the value is not such a list, or all its models are malformed.
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
