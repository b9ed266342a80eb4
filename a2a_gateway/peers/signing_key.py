"""The key pair that signs this gateway's grants. It is made once and kept in the data directory; its public half is published."""

import base64
import hashlib
import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from a2a_gateway.errors import ConfigurationError
from a2a_gateway.host.private_file import write_private_file

FILE_NAME: Final = "grant-key.pem"


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key pair. `public_key` is the base64url text of its 32 public bytes, as a JWK has it in `x`."""

    private: Ed25519PrivateKey = field(repr=False)
    public_key: str

    @classmethod
    def of(cls, private: Ed25519PrivateKey) -> Self:
        """Make the pair of a private key."""
        return cls(private, _base64url(private.public_key().public_bytes_raw()))

    @classmethod
    def generate(cls) -> Self:
        """Make a new key."""
        return cls.of(Ed25519PrivateKey.generate())

    @classmethod
    def open(cls, data_dir: Path) -> Self:
        """Read the key of a data directory, or create it if it is missing. Blocking.

        Raises:
            ConfigurationError: the file cannot be read or written, or holds no such key.
        """
        path = data_dir / FILE_NAME
        try:
            if not path.exists():
                _write(path)
            private = load_pem_private_key(path.read_bytes(), password=None)
        except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
            why = error.strerror if isinstance(error, OSError) else "it holds no private key"
            raise ConfigurationError(f"The key for grants cannot be used ({path}): {why}. Restore it, or remove it.") from None
        if not isinstance(private, Ed25519PrivateKey):
            raise ConfigurationError(f"The key for grants cannot be used ({path}): it is not an Ed25519 key. Remove it.")
        return cls.of(private)

    @classmethod
    def renew(cls, data_dir: Path) -> Self:
        """Replace the key of a data directory, or its unusable file, by a new key. Blocking.

        A running gateway signs with the old key, and publishes it, until it ends. Its tokens are short-lived.

        Raises:
            ConfigurationError: the file cannot be written.
        """
        path = data_dir / FILE_NAME
        try:
            _write(path, replace=True)
        except OSError as error:
            raise ConfigurationError(f"A new key for grants cannot be written ({path}): {error.strerror}.") from None
        return cls.open(data_dir)

    @property
    def kid(self) -> str:
        """The key's id: its RFC 7638 thumbprint."""
        return key_id(self.public_key)

    def jwks(self, gateway_id: str) -> dict[str, object]:
        """Render the public half as a JSON Web Key Set, with this gateway's id beside it."""
        return {"keys": [{**_members(self.public_key), "kid": self.kid, "use": "sig", "alg": "EdDSA"}], "gateway_id": gateway_id}


def key_id(public_key: str) -> str:
    """Return the id of a public key: its RFC 7638 thumbprint."""
    canonical = json.dumps(dict(sorted(_members(public_key).items())), separators=(",", ":"))
    return _base64url(hashlib.sha256(canonical.encode()).digest())


def load_public_key(public_key: str) -> Ed25519PublicKey:
    """Parse a public key from its base64url text.

    Raises:
        ValueError: the text is not a key.
    """
    return Ed25519PublicKey.from_public_bytes(base64.urlsafe_b64decode(public_key + "=" * (-len(public_key) % 4)))


def _members(public_key: str) -> Mapping[str, str]:
    return {"kty": "OKP", "crv": "Ed25519", "x": public_key}


def _write(path: Path, *, replace: bool = False) -> None:
    """Write a new key atomically. Do not overwrite a key that another process has written at the same time, unless `replace`."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    pem = SigningKey.generate().private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with suppress(FileExistsError):
        write_private_file(path, pem, replace=replace)


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode("ascii")
