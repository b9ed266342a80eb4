"""The rules of plain language that a program can check, each a function from a file's content to findings.

A finding is a line number and a sentence. The rules are few and have few false positives: what they do not find, a reviewer does.
"""

import ast
import io
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final, NamedTuple

WORDS: Final[Mapping[str, str]] = {
    r"nobody|somebody|someone|anybody|everybody|whoever|whom": "name the caller, the client, the process",
    r"told|tells?|telling": "send, return, report, inform",
    r"says?|said|saying": "state, return, mean",
    r"hears?|heard": "receive",
    r"learnt|learns?": "receive, find out",
    r"speaks?|spoken|speaking": "use, call, send",
    r"mends?|mended|mending": "fix, sanitise",
    r"heeds?|heeded": "respect",
    r"vouch\w*": "attest",
    r"affair|clothes|strangers?": "name what is meant",
    r"wishes": "request",
    r"anew": "again",
    r"lest|thereof|whereof|whosoever": "use a plain clause",
    r"far side|remote side": "peer",
}
"""What is not written, and what to write instead."""

MAX_WORDS: Final = 40
"""A sentence has 25 words at most as a rule, and never more than this."""

_WORDS: Final = re.compile("|".join(rf"\b(?:{word})\b" for word in WORDS), re.IGNORECASE)
_NONE_AS_A_NOUN: Final = re.compile(
    r"\bnone (?:is|are|was|were|has|have|can|could|may|where|for|that|to|when|in|there)\b"
    r"|\b(?:for|as|with|has|have) none\b|; none\b"
)
_PARTICIPLE: Final = re.compile(
    r"_*(?:told|left|gone|kept|held|shown|sent|said|taken|made|paid|known|seen|given|begun|met|lost|found|heard|written|[a-z]+ed)"
)
_VERBS_IN_ED: Final = frozenset({"feed", "need", "seed", "embed", "exceed", "succeed", "proceed", "shed"})
_NO_VERB: Final = re.compile(
    "The|An?|What|Whatever|Whether|Where|Who|Whose|How|Which|All|Those|That|Why|When|Every|Each|One|No|None|It|This|These|If"
    "|[A-Z][a-z]+[^s]s"  # a noun in the plural
)
_ATTRIBUTES: Final = frozenset({"property", "cached_property", "setter", "fixture", "overload"})
_CODE: Final = re.compile(r"```.*?^```|`[^`\n]*`|<!--.*?-->|https?://\S+", re.DOTALL | re.MULTILINE)
_END_OF_SENTENCE: Final = re.compile(r"(?<=[.:;?!])\s|\s\||\n\s*(?:[-*|#]|\d+\.)|\n\s*\n")


class Finding(NamedTuple):
    line: int
    what: str


def check_document(markdown: str) -> Iterator[Finding]:
    """Check the prose of a document; code in it is left out."""
    prose = _CODE.sub(lambda code: "x" + "\n" * code[0].count("\n"), markdown)
    yield from check_words(1, prose)
    yield from check_length(1, prose)


def check_code(source: str) -> Iterator[Finding]:
    """Check comments, strings, docstrings and names of a Python file."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type in (tokenize.COMMENT, tokenize.STRING, getattr(tokenize, "FSTRING_MIDDLE", -1)):
            yield from check_words(token.start[0], _CODE.sub("x", token.string))
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from check_function(node)
        yield from check_form(node)


def check_words(line: int, text: str) -> Iterator[Finding]:
    """Find words that are not plain, and `none` used as a noun."""
    for number, row in enumerate(text.splitlines(), line):
        for found in _WORDS.finditer(row):
            yield Finding(number, f"{found[0]!r}: {_advice(found[0])}")
        for found in _NONE_AS_A_NOUN.finditer(row):
            yield Finding(number, f"{found[0]!r}: name what is missing")


def check_length(line: int, text: str) -> Iterator[Finding]:
    """Find sentences that are too long; a cell of a table and an item of a list count as one."""
    begin = 0
    for end in [*(found.start() for found in _END_OF_SENTENCE.finditer(text)), len(text)]:
        sentence = text[begin:end].split()
        if len(sentence) > MAX_WORDS:
            yield Finding(line + text[:begin].count("\n"), f"a sentence of {len(sentence)} words: {' '.join(sentence[:6])} …")
        begin = end


def check_function(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[Finding]:
    """Find functions named by a bare participle, and docstrings that do not begin with an imperative verb."""
    decorators = {ast.unparse(decorator).split("(")[0].rpartition(".")[2] for decorator in node.decorator_list}
    if decorators & _ATTRIBUTES:
        return
    if _PARTICIPLE.fullmatch(node.name) and node.name.strip("_") not in _VERBS_IN_ED:
        yield Finding(node.lineno, f"{node.name}: begin with a verb, or name what is returned")
    first = re.match(r"\w+", ast.get_docstring(node) or "")
    if first and _NO_VERB.fullmatch(first[0]):
        yield Finding(node.lineno, f"{node.name}: its docstring begins with {first[0]!r}, not with an imperative verb")


def check_form(node: ast.AST) -> Iterator[Finding]:
    """Find strings multiplied by booleans, and conditional expressions that pick the function to call."""
    match node:
        case ast.BinOp(op=ast.Mult(), left=left, right=right) if _is_bool_call(left) or _is_bool_call(right):
            yield Finding(node.lineno, "a value multiplied by a boolean: use a conditional expression")
        case ast.Call(func=ast.IfExp()):
            yield Finding(node.lineno, "a conditional expression picks the function to call: use an if statement")


def public_types(files: Iterable[Path]) -> Mapping[str, list[Path]]:
    """Return the public classes and type aliases of files, each with the files that define it."""
    homes: dict[str, list[Path]] = {}
    for file in files:
        for node in ast.parse(file.read_text()).body:
            match node:
                case ast.ClassDef(name=name) | ast.TypeAlias(name=ast.Name(id=name)) if not name.startswith("_"):
                    homes.setdefault(name, []).append(file)
    return homes


def _advice(word: str) -> str:
    return next(advice for words, advice in WORDS.items() if re.fullmatch(words, word, re.IGNORECASE))


def _is_bool_call(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "bool"
