"""Mask known secrets in text and JSON values that an LLM, a peer or an endpoint sends, before they are passed on.

The secrets are passed in. A stream is masked without delay: only text that could be the beginning of a secret is held back. This
module uses the standard library only, because `delegate_tool`, `agents` and `peers` all need it.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

HIDDEN = "<secret-hidden>"
_MIN_LENGTH = 8  # shorter values are placeholders such as "none" or "test"; hiding them would tear ordinary words


@dataclass(frozen=True, slots=True)
class Secrets:
    """Values to mask, longest first, so that a value is masked whole before a shorter one that it contains."""

    values: tuple[str, ...] = field(default=(), repr=False)

    @classmethod
    def of(cls, values: Iterable[str | None]) -> "Secrets":
        """Collect values. Missing values, and those too short to be a secret, are left out."""
        kept = {value for value in values if value and len(value) >= _MIN_LENGTH}
        return cls(tuple(sorted(kept, key=lambda value: (-len(value), value))))

    def mask(self, text: str) -> str:
        """Replace every secret in a whole text."""
        for value in self.values:
            text = text.replace(value, HIDDEN)
        return text

    def mask_json(self, value: object) -> object:
        """Replace every secret in all texts of a JSON value, also in names of members. Return None if it is nested too deeply."""
        if not self.values:
            return value
        try:
            return self._mask_value(value)
        except RecursionError:
            return None

    def _mask_value(self, value: object) -> object:
        match value:
            case str():
                return self.mask(value)
            case Mapping():
                return {self.mask(str(name)): self._mask_value(member) for name, member in value.items()}
            case list():
                return [self._mask_value(item) for item in value]
            case _:
                return value

    def stream(self) -> "StreamMask":
        """Begin to mask a text that arrives in pieces."""
        return StreamMask(self)


class StreamMask:
    """Masks a text that arrives in pieces; `feed` each of them, then `flush`."""

    def __init__(self, secrets: Secrets) -> None:
        self._secrets = secrets
        self._initials = {value[0] for value in secrets.values}
        self._whole = re.compile("|".join(map(re.escape, secrets.values)))
        self._pending = ""

    def feed(self, text: str) -> str:
        """Return the text that can be passed on by now."""
        if not self._secrets.values:
            return text
        text, shown = self._pending + text, ""
        cut = self._possible_start(text)
        # A whole secret may also be the beginning of a longer one: then it is held back, too.
        while (found := self._whole.search(text)) and found.start() < cut:
            shown += text[: found.start()] + HIDDEN
            text = text[found.end() :]
            cut = self._possible_start(text)
        self._pending = text[cut:]
        return shown + text[:cut]

    def flush(self) -> str:
        """Return what was held back. The text has ended, so only a whole secret is masked."""
        rest, self._pending = self._pending, ""
        return self._secrets.mask(rest)

    def _possible_start(self, text: str) -> int:
        """Return the index from which the rest of the text may be the beginning of a secret."""
        longest = len(self._secrets.values[0])
        for index in range(max(0, len(text) - longest + 1), len(text)):
            if text[index] in self._initials and any(value.startswith(text[index:]) for value in self._secrets.values):
                return index
        return len(text)
