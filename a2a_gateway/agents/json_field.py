"""Read one string of a JSON object while the object is still arriving. Pure; standard library only.

The answer of an agent may be an argument of the `finish` tool; this is how it is streamed. The LLM sends the arguments in pieces
that may end anywhere, also in the middle of an escape. Each character is read once.

Parsers of partial documents, such as `pydantic_core.from_json(…, allow_partial="trailing-strings")`, start from the beginning
with each piece: 1 MB in pieces of four characters would take about ten minutes instead of half a second. They also stop at
control characters in strings and at unknown escapes, which LLMs write although JSON forbids them.
"""

_ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f"}
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


class JsonStringField:
    """Reads the value of one top-level string member; `feed` returns the part that each piece adds to it.

    A lone surrogate becomes U+FFFD, because UTF-8 cannot encode it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._depth = 0
        self._at_key = False
        self._key: list[str] | None = None  # the last top-level key, as far as it has arrived
        self._in_string = False
        self._reading_key = False
        self._wanted = False
        self._escape: str | None = None  # the part of an escape that has arrived, without its backslash
        self._high: int | None = None  # a high surrogate from an escape, until it is known whether the low one follows

    def feed(self, piece: str) -> str:
        """Return the part of the value that this piece of JSON text adds."""
        added: list[str] = []
        for char in piece:
            if self._in_string:
                self._string_char(char, added)
            else:
                self._structure_char(char)
        return "".join(added)

    def _structure_char(self, char: str) -> None:
        match char:
            case '"':
                self._open_string()
            case "{" | "[":
                self._depth += 1
                self._at_key = char == "{" and self._depth == 1
            case "}" | "]":
                self._depth -= 1
            case ":" if self._depth == 1:
                self._at_key = False
            case "," if self._depth == 1:
                self._at_key = True

    def _open_string(self) -> None:
        self._in_string = True
        self._reading_key = self._depth == 1 and self._at_key
        self._wanted = self._depth == 1 and not self._at_key and self._key is not None and "".join(self._key) == self._name
        if self._reading_key:
            self._key = []

    def _string_char(self, char: str, added: list[str]) -> None:
        if self._escape is not None:
            self._escape_char(char, added)
        elif char == "\\":
            self._escape = ""
        elif char == '"':
            self._replace_lone_surrogate(added)
            self._in_string = False
        else:
            self._put(char, added)

    def _escape_char(self, char: str, added: list[str]) -> None:
        self._escape = (self._escape or "") + char
        if self._escape[0] != "u":
            self._escape = None
            self._put(_ESCAPES.get(char, char), added)
        elif len(self._escape) == 5:
            digits, self._escape = self._escape[1:], None
            self._put_code(int(digits, 16) if all(digit in "0123456789abcdefABCDEF" for digit in digits) else 0xFFFD, added)

    def _put_code(self, code: int, added: list[str]) -> None:
        if 0xDC00 <= code < 0xE000 and self._high is not None:
            code, self._high = 0x10000 + ((self._high - 0xD800) << 10) + (code - 0xDC00), None
        if 0xD800 <= code < 0xDC00:
            self._replace_lone_surrogate(added)
            self._high = code
        else:
            self._put(_REPLACEMENT if 0xDC00 <= code < 0xE000 else chr(code), added)

    def _replace_lone_surrogate(self, added: list[str]) -> None:
        if self._high is not None:
            self._high = None
            self._put(_REPLACEMENT, added)

    def _put(self, char: str, added: list[str]) -> None:
        self._replace_lone_surrogate(added)
        if self._reading_key and self._key is not None:
            self._key.append(char)
        elif self._wanted:
            added.append(char)
