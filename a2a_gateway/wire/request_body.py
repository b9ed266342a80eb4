"""The parts of a request that all wires parse alike: the JSON body, the delegation context, the marks of a repetition."""

import hashlib
from collections.abc import Mapping, Set
from dataclasses import replace
from typing import Final

from pydantic_core import from_json, to_json

from a2a_gateway.errors import RequestError
from delegate_tool.protocol.context import (
    ContextError,
    DelegationContext,
    decode_body,
    decode_headers,
    encode_headers,
    refuse_header,
    unknown_headers,
)

_RETRY_HEADER: Final = "x-stainless-retry-count"
"""Sent by OpenAI's SDKs alone. Other clients do not mark a repeated request."""


def decode_json_object(body: bytes) -> dict[str, object]:
    """Decode a body that must be a JSON object.

    Raises:
        RequestError: it is not valid JSON, or not an object.
    """
    try:
        # Refuses NaN, lone surrogates, deep nesting (200 levels) and endless numbers, which the standard library accepts.
        value = from_json(body.removeprefix(b"\xef\xbb\xbf"), allow_inf_nan=False)
    except ValueError as error:
        raise RequestError(f"The body is not valid JSON: {error}.") from None
    if not isinstance(value, dict):
        raise RequestError("The body must be a JSON object.")
    return value


def parse_context(headers: Mapping[str, str], in_body: object = None) -> DelegationContext:
    """Read the `X-A2A-*` headers, narrowed by the same fields in the body (`a2a`) if it has them.

    An unknown header is refused, because a limit that is ignored is not noticed before it was needed. A request that came through
    another gateway is accepted: that gateway may have a later version of the protocol. Its response names the header.

    Raises:
        RequestError: a value is invalid, or a name is unknown; `param` names the header or field.
    """
    try:
        context = decode_headers(headers)
        if not context.via:
            for name in unknown_headers(headers):
                raise refuse_header(name)
        return context if in_body is None else context.narrowed_by(decode_body(in_body))
    except ContextError as error:
        raise RequestError(f"{error}.", param=error.param) from None


def fingerprint(values: Mapping[str, object], context: DelegationContext, *, form_of_response: Set[str]) -> str:
    """Hash everything that a request asks for, as the client wrote it: requests with the same fingerprint ask for the same.

    Args:
        values: the decoded body.
        form_of_response: fields that only select the form of the response; a repetition may ask for another form.
    """
    asked = {name: value for name, value in values.items() if name not in form_of_response}
    aside = {"idempotency_key": None, "traceparent": None, "tracestate": None, "on_disconnect": None, "trail": ()}
    headers = encode_headers(replace(context, **aside))  # type: ignore[arg-type]  # fields of DelegationContext
    return hashlib.sha256(to_json([asked, sorted(headers.items())])).hexdigest()


def is_marked_retry(headers: Mapping[str, str]) -> bool:
    """Return whether the client marks the request as a repetition."""
    return headers.get(_RETRY_HEADER, "0").strip() not in ("", "0")
