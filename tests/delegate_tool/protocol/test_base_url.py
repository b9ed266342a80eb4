"""Base URLs: what is accepted, and what is named as the fault of one that is not."""

import pytest

from delegate_tool.protocol.base_url import parse_base_url


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://127.0.0.1:8420/v1", "http://127.0.0.1:8420/v1"),
        (" https://agents.example/v1/\n", "https://agents.example/v1"),
        ("http://[::1]:8420/v1", "http://[::1]:8420/v1"),
        ("https://agents.example/gateways/a/v1", "https://agents.example/gateways/a/v1"),
    ],
)
def test_a_base_url_loses_spaces_and_slashes_at_its_end(text: str, url: str) -> None:
    assert parse_base_url(text) == url


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("localhost:8420", "write http://localhost:8420"),
        ("10.0.0.7:8420/v1", "write http://10.0.0.7:8420/v1"),
        ("agents.example/v1", "write https://agents.example/v1"),
        ("[::1]:8420", "write http://\\[::1\\]:8420"),
        ("htp://x", "http:// or https://"),
        ("https:/x/v1", "no host"),
        ("file:///etc/passwd", "http:// or https://"),
        ("/v1", "http:// or https://"),
        ("", "http:// or https://"),
        ("http://a b/v1", "a space"),
        ("http://x/v1\x00", "a control character"),
        ("http://::1:8420/v1", "brackets"),
        ("http://[::1", "not a URL"),
        ("http://x:99999", "not a URL"),
        ("http://:8420", "no host"),
        ("http://x/v1?key=hunter2", "without \\? or #"),
        ("http://me:hunter2@x/v1", "a password"),
        ("me:hunter2@x", "http:// or https://"),
    ],
)
def test_the_fault_of_another_text_is_named_without_a_password(text: str, fault: str) -> None:
    with pytest.raises(ValueError, match=fault) as refused:
        parse_base_url(text)
    assert "hunter2" not in str(refused.value)
