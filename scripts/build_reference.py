"""Generate the reference pages of the documentation from the code: `python -m scripts.build_reference`.

`make docs` runs it before it builds the site. The pages are not committed. Each is a function that returns markdown.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from typer.main import get_command

from a2a_gateway import Gateway, Settings, create_router
from a2a_gateway.cli.app import app as command_line
from a2a_gateway.llm_settings import LLMFields, LLMSettings
from delegate_tool.protocol.codes import ERROR_CODES
from delegate_tool.protocol.limits import LIMITS

_METHODS: Final = ("get", "post", "put", "patch", "delete")


def render_settings() -> str:
    """Render every setting with its environment variable, default and meaning."""
    prefix = Settings.model_config["env_prefix"]
    rows = [
        (_code(name), _code(f"{prefix}{name.upper()}"), _default_of(name), field.description or "")
        for name, field in Settings.model_fields.items()
    ]
    head = "In `gateway.toml` a setting has the name of the first column. Sizes are in bytes, durations in seconds."
    return _page("Settings", head, _table(("setting", "environment", "default", "meaning"), rows))


def render_llm_fields() -> str:
    """Render the fields of an LLM, for `[[llms]]` and for profiles."""
    own = ("name", "model")
    fields = {name: LLMSettings.model_fields[name] for name in (*own, *LLMFields.model_fields)}
    rows = [(_code(name), field.description or "") for name, field in fields.items()]
    head = "Those of an entry of `[[llms]]`. All but `name` and `model` can also stand in the block `a2a:` of a profile."
    return _page("Fields of an LLM", head, _table(("field", "meaning"), rows))


def render_errors() -> str:
    """Render every error code with its HTTP status, whether to retry, when it is sent, and its remedy."""
    rows = [(_code(row.code), str(row.status), row.retry, row.when, row.remedy) for row in ERROR_CODES.values()]
    head = "[Protocol](../protocol.md#errors) states what stands beside the code in an error."
    return _page("Error codes", head, _table(("code", "HTTP", "retry", "when", "remedy"), rows))


def render_limits() -> str:
    """Render every limit of a run with its header, its field in a request's body, and its default."""
    rows = [(_code(row.field), _code(row.header), _default_of_limit(row.field), row.meaning) for row in LIMITS]
    head = "The name is that of the setting, of the field under `a2a` in a request's body, and of the field in a profile."
    return _page("Limits", head, _table(("limit", "header", "default", "meaning"), rows))


def _default_of_limit(field: str) -> str:
    return _default_of(field) if field in Settings.model_fields else "none"


def render_commands() -> str:
    """Render every command with its arguments and options."""
    return _page("Commands", "", *_sections_of(get_command(command_line), "a2a-gateway"))


def render_endpoints() -> str:
    """Render every HTTP endpoint of the OpenAPI schema, with its parameters and responses."""
    app = FastAPI()
    app.include_router(create_router(Gateway(Settings())))
    sections = [
        _section_of_endpoint(method, path, operations[method])
        for path, operations in app.openapi()["paths"].items()
        for method in _METHODS
        if method in operations
    ]
    return _page("HTTP endpoints", "A running gateway serves the schema at `/openapi.json`, and a form at `/docs`.", *sections)


PAGES: Final[Mapping[str, Callable[[], str]]] = {
    "settings.md": render_settings,
    "llm-fields.md": render_llm_fields,
    "errors.md": render_errors,
    "limits.md": render_limits,
    "commands.md": render_commands,
    "endpoints.md": render_endpoints,
}


def write_pages(directory: Path) -> None:
    """Write all pages into a directory."""
    directory.mkdir(exist_ok=True)
    for name, render in PAGES.items():
        (directory / name).write_text(render())


def _page(title: str, head: str, *parts: str) -> str:
    return "\n\n".join(filter(None, (f"# {title}", head, *parts))) + "\n"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _code(text: str) -> str:
    return f"`{text}`"


def _default_of(setting: str) -> str:
    value = Settings.model_fields[setting].get_default(call_default_factory=True)
    if value in (None, ()):
        return "none"
    value = value[0] if isinstance(value, tuple) else value
    if isinstance(value, Path) and value.is_relative_to(Path.home()):
        value = Path("~") / value.relative_to(Path.home())
    size = f" ({value // 2**20} MiB)" if setting.endswith("_bytes") else ""
    return _code(f"{value:.15g}" if isinstance(value, float) else str(value)) + size


def _sections_of(command: Any, name: str) -> list[str]:
    """Return the section of a command, and those of its subcommands."""
    subcommands = [_sections_of(below, f"{name} {word}") for word, below in getattr(command, "commands", {}).items()]
    described = [parameter for parameter in command.params if parameter.help and "completion" not in parameter.name]
    rows = [(_name_of(parameter), parameter.help) for parameter in described]
    table = _table(("argument or option", "meaning"), rows) if rows else ""
    section = "\n\n".join(filter(None, (f"## {name}", command.help, table)))
    return [section, *(part for parts in subcommands for part in parts)]


def _name_of(parameter: Any) -> str:
    return _code(parameter.name.upper() if parameter.param_type_name == "argument" else parameter.opts[0])


def _section_of_endpoint(method: str, path: str, operation: Mapping[str, Any]) -> str:
    parameters = [
        (_code(item["name"]), item["in"], "yes" if item.get("required") else "no", item.get("description", ""))
        for item in operation.get("parameters", [])
    ]
    responses = [(status, response.get("description", "")) for status, response in operation["responses"].items()]
    parts = (
        f"## {method.upper()} {path}",
        f"{operation['summary']}.",
        operation.get("description", ""),
        _table(("parameter", "in", "required", "meaning"), parameters) if parameters else "",
        _table(("status", "meaning"), responses),
    )
    return "\n\n".join(filter(None, parts))


if __name__ == "__main__":
    write_pages(Path(__file__).parent.parent / "docs" / "reference")
