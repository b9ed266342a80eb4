"""Read the MCP servers of a definition: put the values of variables into them, and report what cannot work.

`${NAME}` and `${NAME:-default}` stand for a variable of the gateway's environment, as in OpenHands. A credential of the gateway
is never given to a server: who can write a profile could read it there. Variables whose name begins with `MCP_` are for servers.
"""

import os
import re
import shutil
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from fastmcp.mcp_config import MCPConfig
from openhands.sdk.mcp import MCPServer, to_fastmcp_mcp_config
from openhands.sdk.mcp.config import coerce_mcp_config, dump_mcp_config, enabled_mcp_servers
from pydantic import SecretStr, ValidationError

from a2a_gateway.agents.profiles.definition_errors import DefinitionError, Fault, from_validation_error
from a2a_gateway.agents.profiles.llm_environment import LLMEnvironment
from delegate_tool.protocol.text import did_you_mean

FIELDS: Final = ("mcp_config", "mcp_servers")
"""The names of the field; the first that a definition has is read."""

_VARIABLE: Final = re.compile(r"\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}")
_FOR_SERVERS: Final = "MCP_"
_OF_THE_GATEWAY: Final = "A2A_"
_SECRET_NAME: Final = re.compile(r"KEY|TOKEN|SECRET|PASS|CREDENTIAL|AUTH", re.IGNORECASE)
_KNOWN: Final = frozenset({*MCPServer.model_fields, "type"})


@dataclass(frozen=True, slots=True)
class McpDefinitions:
    """The enabled servers of a definition, complete with the values of variables, and the credentials among these values."""

    servers: Mapping[str, MCPServer] = field(default_factory=dict, repr=False)
    secrets: tuple[SecretStr, ...] = ()


def resolve_servers(
    servers: Mapping[str, MCPServer] | None, at: str, environment: LLMEnvironment, key_variables: Collection[str] = ()
) -> McpDefinitions:
    """Return the servers that a run starts.

    Args:
        at: the field of the definition.
        key_variables: those that definitions and settings have named as holding the key of an LLM.

    Raises:
        DefinitionError: a variable is not set or not for servers, or a server's values do not fit together.
    """
    enabled = enabled_mcp_servers(servers or {})
    if not enabled:
        return McpDefinitions()
    expansion = _Expansion(environment, key_variables)
    expanded = {name: expansion.expand(values, (at, name)) for name, values in dump_mcp_config(enabled).items()}
    faults = (*expansion.faults, *(_needs_browser(at, name) for name, server in enabled.items() if server.oauth_auth is not None))
    if faults:
        raise DefinitionError(*faults)
    try:
        resolved = coerce_mcp_config(expanded)
        MCPConfig.model_validate(to_fastmcp_mcp_config(resolved))
    except ValidationError as error:
        raise from_validation_error(error, (at,)) from None
    found = {*expansion.secrets, *(value for server in expanded.values() for value in _credentials(server))}
    return McpDefinitions(resolved, tuple(map(SecretStr, sorted(found))))


def server_warnings(front: Mapping[str, object]) -> Iterator[Fault]:
    """Report fields of servers that have no effect, and programs that are not installed."""
    at = next((name for name in FIELDS if name in front), "")
    servers = front.get(at)
    if not isinstance(servers, Mapping):
        return
    servers = servers.get("mcpServers") or servers
    for name, server in servers.items():
        if not isinstance(server, Mapping):
            continue
        for key in map(str, server.keys() - _KNOWN):
            yield Fault(
                f"{key[:60]} is not a field of an MCP server, and has no effect{did_you_mean(key, _KNOWN)}",
                (at, str(name), key),
            )
        command = server.get("command")
        if (
            isinstance(command, str)
            and not _VARIABLE.search(command)
            and server.get("enabled", True)
            and not shutil.which(command)
        ):
            yield Fault(
                f"the MCP server {str(name)[:60]!r} cannot start: its command is no program of this machine",
                (at, str(name), "command"),
            )


class _Expansion:
    """Replaces variables in the values of servers, and notes the credentials among their values."""

    def __init__(self, environment: LLMEnvironment, key_variables: Collection[str]) -> None:
        self._credentials = environment.secrets
        self._key_variables = key_variables
        self.secrets: set[str] = set()
        self.faults: list[Fault] = []

    def expand(self, value: Any, at: tuple[str, ...]) -> Any:
        match value:
            case str():
                return _VARIABLE.sub(lambda found: self._value(found, at), value)
            case Mapping():
                return {key: self.expand(each, (*at, str(key))) for key, each in value.items()}
            case list():
                return [self.expand(each, at) for each in value]
            case _:
                return value

    def _value(self, found: re.Match[str], at: tuple[str, ...]) -> str:
        name, default = found[1], found[2]
        is_credential = name in self._credentials or name in self._key_variables
        if (is_credential and not name.startswith(_FOR_SERVERS)) or name.startswith(_OF_THE_GATEWAY):
            self.faults.append(
                Fault(
                    f"the variable {name} is the gateway's own, and is not given to an MCP server: set one whose name begins "
                    f"with {_FOR_SERVERS}, and name that",
                    at,
                )
            )
            return ""
        secret = self._credentials.get(name)
        value: str | None = secret.get_secret_value() if secret is not None else os.environ.get(name, default)
        if value is None:
            self.faults.append(Fault(f"the variable {name} is not set in the gateway's environment", at))
            return ""
        if name.startswith(_FOR_SERVERS) or _SECRET_NAME.search(name):
            self.secrets.add(value)
        return value


def _credentials(server: Mapping[str, Any]) -> Iterator[str]:
    yield from (value for name, value in server.get("env", {}).items() if _SECRET_NAME.search(name))
    headers = (*server.get("headers", {}).values(), *_texts(server.get("auth", {})))
    for value in headers:
        yield value
        yield value.rpartition(" ")[2]  # without `Bearer`


def _texts(value: object) -> Iterator[str]:
    match value:
        case str():
            yield value
        case Mapping():
            for name, each in value.items():
                if name not in ("strategy", "header_name", "username"):
                    yield from _texts(each)


def _needs_browser(at: str, name: str) -> Fault:
    return Fault(
        f"the MCP server {name[:60]!r} has auth oauth2, which needs a person at a browser: give it a token instead", (at, name)
    )
