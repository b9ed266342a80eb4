"""Which servers count as the user's own."""

import pytest

from a2a_gateway.agents.llm.local_servers import is_local

LOCAL = (
    "http://127.0.0.1:11434",
    "http://127.8.9.1/v1",
    "http://[::1]:1234/v1",
    "http://[::ffff:10.0.0.1]/v1",
    "http://10.1.2.3:8000/v1",
    "http://172.16.0.1/v1",
    "https://192.168.0.7/v1",
    "http://169.254.1.1/v1",
    "http://[fe80::1]/v1",
    "http://[fd00::1]/v1",
    "http://LOCALHOST:1234/v1",
    "http://llm.localhost/v1",
    "http://gpu.local./v1",
    "http://host.docker.internal:11434",
    "http://ollama:11434",
    "http://vllm-1_a/v1",
)
NOT_LOCAL = (
    None,
    "",
    "http://8.8.8.8/v1",
    "http://172.32.0.1/v1",
    "http://[::ffff:8.8.8.8]/v1",
    "http://[2606:4700::1111]/v1",
    "https://api.openai.com/v1",
    "https://localhost.example.com/v1",
    "https://notlocal.io/v1",
    "http://0x08080808/v1",
    "https://10.0.0.1.example.com/v1",
    "http://127.1/v1",
    "http://2130706433/v1",
    "http://user@8.8.8.8/v1?127.0.0.1",
    "http://[bad/v1",
)


@pytest.mark.parametrize("url", LOCAL)
def test_a_server_on_this_machine_or_in_its_network_is_local(url: str) -> None:
    assert is_local("openai", url)


@pytest.mark.parametrize("url", NOT_LOCAL)
def test_a_public_address_or_name_is_not_local(url: str | None) -> None:
    assert not is_local("openai", url)


def test_a_litellm_proxy_is_not_local_wherever_it_is() -> None:
    assert not is_local("litellm_proxy", "http://127.0.0.1:4000")
