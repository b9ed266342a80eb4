"""The key by which a gateway signs its grants, in a file of its data directory."""

import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import jwt
import pytest

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.peers.signing_key import FILE_NAME, SigningKey
from tests.error_texts.texts import pattern_of


def test_a_key_is_made_once_and_only_its_owner_can_read_it(tmp_path: Path) -> None:
    made = SigningKey.open(tmp_path / "data")
    assert SigningKey.open(tmp_path / "data").public_key == made.public_key
    assert stat.S_IMODE((tmp_path / "data" / FILE_NAME).stat().st_mode) == 0o600
    assert [path.name for path in (tmp_path / "data").iterdir()] == [FILE_NAME]


def test_those_who_make_it_at_the_same_time_have_the_same_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as threads:
        found = {key.public_key for key in threads.map(SigningKey.open, [tmp_path] * 32)}
    assert len(found) == 1


def test_a_new_key_takes_the_place_of_the_old_one_or_of_a_file_without_any(tmp_path: Path) -> None:
    old = SigningKey.open(tmp_path)
    new = SigningKey.renew(tmp_path)
    assert new.public_key not in (old.public_key, SigningKey.renew(tmp_path).public_key)
    (tmp_path / FILE_NAME).write_bytes(b"")
    assert SigningKey.renew(tmp_path).public_key == SigningKey.open(tmp_path).public_key
    assert stat.S_IMODE((tmp_path / FILE_NAME).stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE_NAME]


def test_a_new_key_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    old = SigningKey.open(tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ConfigurationError, match=pattern_of("configuration_error: a signing key that cannot be written")):
        SigningKey.renew(tmp_path / "file")
    assert SigningKey.open(tmp_path).public_key == old.public_key


def test_the_published_key_is_one_that_other_software_reads(tmp_path: Path) -> None:
    key = SigningKey.open(tmp_path)
    published = jwt.PyJWKSet.from_dict(key.jwks("desk"))
    token = jwt.encode({"hello": "world"}, key.private, algorithm="EdDSA", headers={"kid": key.kid})
    assert jwt.decode(token, published[key.kid], algorithms=["EdDSA"]) == {"hello": "world"}
    assert key.jwks("desk")["gateway_id"] == "desk"


@pytest.mark.parametrize("content", [b"", b"no key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
def test_a_file_without_a_key_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(ConfigurationError, match=pattern_of("configuration_error: a signing key that is none")):
        SigningKey.open(tmp_path)


def test_a_key_of_another_kind_is_refused(tmp_path: Path) -> None:
    from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    other = generate_private_key(SECP256R1())
    (tmp_path / FILE_NAME).write_bytes(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    with pytest.raises(ConfigurationError, match=pattern_of("configuration_error: a signing key of another kind")):
        SigningKey.open(tmp_path)
