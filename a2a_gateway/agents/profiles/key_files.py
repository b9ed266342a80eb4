"""Read the files that hold keys of LLMs, and remember in which state each was read, so that a change is noticed."""

import os
import stat
from pathlib import Path
from typing import Final

from pydantic import SecretStr

from a2a_gateway.agents.profiles.definition_errors import definition_error

type Stamp = tuple[int, int, int]

_FIELD: Final = "api_key_file"
_MOST_BYTES: Final = 64 * 1024
_MISSING: Final[Stamp] = (0, 0, 0)


class KeyFiles:
    """Reads key files, each once; `stamps` are their states from before they were read."""

    def __init__(self) -> None:
        self.stamps: dict[Path, Stamp] = {}

    def read(self, path: Path) -> SecretStr:
        """Return the key in a file.

        Raises:
            DefinitionError: the file does not exist, cannot be read, or contains no key.
        """
        self.stamps.setdefault(path, stamp_of(path))
        try:
            # Without blocking: a named pipe without a writer would stop the gateway.
            descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            with os.fdopen(descriptor, "rb") as file:
                if not stat.S_ISREG(os.fstat(descriptor).st_mode):
                    raise definition_error(
                        f"{_FIELD}: {path} is not a regular file; name a file that contains only the key", _FIELD
                    )
                content = file.read(_MOST_BYTES + 1)
        except OSError as error:
            reason = error.strerror or type(error).__name__
            raise definition_error(f"{_FIELD}: {path} cannot be read ({reason}); write the key into it", _FIELD) from None
        if len(content) > _MOST_BYTES:
            raise definition_error(f"{_FIELD}: {path} is larger than {_MOST_BYTES} bytes; it must contain only the key", _FIELD)
        return parse_key(content.decode(errors="replace"), f"{_FIELD}: {path}", _FIELD)


def parse_key(text: str, where: str, field: str) -> SecretStr:
    """Return a key without the white space around it, such as the line break at the end of a file.

    Raises:
        DefinitionError: it is empty, or has characters that a header cannot contain.
    """
    key = text.strip()
    if not key:
        raise definition_error(f"{where} is empty; it must contain the API key", field)
    if not key.isascii() or not key.isprintable() or " " in key:
        raise definition_error(f"{where} contains more than one word, or characters that an API key cannot have", field)
    return SecretStr(key)


def stamp_of(path: Path) -> Stamp:
    """Return the state of a file, which differs after a change."""
    try:
        found = path.stat()
    except (OSError, ValueError):
        return _MISSING
    return found.st_mtime_ns, found.st_size, found.st_ino
