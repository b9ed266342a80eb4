"""Decide whether an LLM runs on a server of the user's own, which charges nothing. Pure; resolves no names."""

import re
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final
from urllib.parse import urlsplit

DEFAULT_SERVERS: Final[Mapping[str, tuple[str, str]]] = {
    "ollama_chat": ("OLLAMA_API_BASE", "http://localhost:11434"),
    "llamafile": ("LLAMAFILE_API_BASE", "http://127.0.0.1:8080/v1"),
    "lemonade": ("LEMONADE_API_BASE", "http://localhost:8000/api/v1"),
    "docker_model_runner": ("DOCKER_MODEL_RUNNER_API_BASE", "http://localhost:22088/engines/llama.cpp"),
}
"""LiteLLM's providers with a default URL on this machine: the variable that replaces it, and the default."""
SERVER_VARIABLES: Final[Mapping[str, str]] = {
    "custom_openai": "CUSTOM_OPENAI_API_BASE",
    "hosted_vllm": "HOSTED_VLLM_API_BASE",
    "litellm_proxy": "LITELLM_PROXY_API_BASE",
    "lm_studio": "LM_STUDIO_API_BASE",
    "xinference": "XINFERENCE_API_BASE",
}
"""LiteLLM's providers without a default URL, with the variable for it. Without a URL, LiteLLM sends the requests to OpenAI."""
_DOCKER_HOST: Final = "host.docker.internal"
_LOCAL_ENDS: Final = (".localhost", ".local")
_SERVICE_NAME: Final = re.compile(r"[a-z][a-z0-9_-]*")
"""A name without a dot, such as that of a service of Docker Compose: only a private network resolves it."""
_PROXY: Final = "litellm_proxy"


def is_local(provider: str | None, base_url: str | None) -> bool:
    """Return whether an LLM with this provider and URL is on this machine or in its private network.

    A LiteLLM proxy is not: it passes requests on to providers that charge for them.
    """
    if base_url is None or provider == _PROXY:
        return False
    try:
        host = urlsplit(base_url).hostname
    except ValueError:
        return False
    return host is not None and _is_local_host(host.rstrip("."))


def _is_local_host(host: str) -> bool:
    try:
        address: IPv4Address | IPv6Address = ip_address(host)
    except ValueError:
        return host == _DOCKER_HOST or host.endswith(_LOCAL_ENDS) or _SERVICE_NAME.fullmatch(host) is not None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return address.is_loopback or address.is_private or address.is_link_local
