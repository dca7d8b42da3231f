"""Write docs/reference/{api,batch,checks,cli,declaration,errors,http}.md from the code that they describe.

Run `python tools/write_reference.py` after a change of a public name, a command or an error, and commit the result; a
test compares the pages with the code.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from operator import attrgetter
from pathlib import Path
from types import ModuleType
from typing import Any

import click

import sevenfold
from sevenfold import errors
from sevenfold.serving.openapi import openapi
from sevenfold.spec.check_data import DATA_RULES
from sevenfold.spec.check_expect import EXPECT_RULES
from sevenfold.spec.check_features import FEATURE_RULES
from sevenfold.spec.check_operation import OPERATION_RULES
from sevenfold.spec.check_serving import SERVING_RULES
from sevenfold.spec.check_tables import TABLE_RULES
from sevenfold.spec.shape import field_hints, wanted

ROOT = Path(__file__).resolve().parent.parent
WRITTEN = "*Written by `tools/write_reference.py`.*"


def api_page() -> str:
    """Every public name: its signature and what it says of itself, by the module it lives in."""
    by_module: dict[str, list[str]] = {}
    for name in sevenfold.__all__:
        value = getattr(sevenfold, name)
        if isinstance(value, ModuleType):
            by_module.setdefault(value.__name__, []).extend(_of_module(name, value))
            continue
        module = getattr(value, "__module__", None) or "sevenfold"
        by_module.setdefault(module, []).append(name)
    lines = ["# The public names", "", WRITTEN, ""]
    lines += [
        "`import sevenfold as sf`, then `sf.NAME`. These names, their arguments and meanings are the promise of a"
    ]
    lines += ["version; everything else may change without notice."]
    for module in sorted(by_module):
        lines += ["", f"## `{module}`"]
        for name in by_module[module]:
            lines += ["", *_entry(name, attrgetter(name)(sevenfold))]
    return "\n".join(lines) + "\n"


def _of_module(name: str, module: ModuleType) -> list[str]:
    """What stands behind a public module; the errors have a page of their own."""
    return (
        []
        if name == "errors"
        else [f"{name}.{one}" for one in module.__all__ if callable(getattr(module, one))]
    )


def batch_page() -> str:
    """Reads of whole tables: every name of `sevenfold.batch`, with what each method says in full."""
    batch = importlib.import_module("sevenfold.batch")
    lines = ["# Tables", "", WRITTEN, "", *_prose(inspect.getdoc(batch) or "")]
    for name in batch.__all__:
        value = getattr(batch, name)
        lines += ["", f"## `{name}`", "", "```text", _signature(name, value), "```", ""]
        lines += _prose(inspect.getdoc(value) or "")
        methods = {key: one for key, one in vars(value).items() if inspect.isfunction(one)}
        for key in (key for key in methods if not key.startswith("_")):
            lines += ["", f"### `.{key}`", "", "```text", _signature(key, methods[key]), "```", ""]
            lines += _prose(inspect.getdoc(methods[key]) or "")
    return "\n".join(lines) + "\n"


def errors_page() -> str:
    """Every error: where it stands in the tree and when it is raised."""
    lines = ["# The errors", "", WRITTEN, ""]
    lines += [
        "All that is raised on purpose is a `SevenfoldError`; anything else that comes out is a fault of ours. A message"
    ]
    lines += [
        "says what is wrong, where, what was given, what is allowed and what to do.",
        "",
        "```text",
    ]
    lines += [*_tree(errors.SevenfoldError, ""), "```"]
    for name in sorted(errors.__all__):
        kind = getattr(errors, name)
        if len((inspect.getdoc(kind) or "").splitlines()) > 1:
            lines += ["", *_entry(name, kind)]
    return "\n".join(lines) + "\n"


def checks_page() -> str:
    """Every rule that a declaration is held to."""
    lines = ["# The checks", "", WRITTEN, ""]
    lines += [
        "`sevenfold check` runs every rule and shows all problems at once, each with its path, what was given, what is"
    ]
    lines += ["allowed and what to do. An error also stops `sf.System(...)`; a warning does not."]
    for heading, rules in _RULES.items():
        lines += ["", f"## {heading}", "", "| rule | holds |", "|---|---|"]
        for rule in rules:
            code, _, meaning = (inspect.getdoc(rule) or "").partition(": ")
            code, meaning = (
                (code, meaning) if code.startswith("C-") else ("C-00", inspect.getdoc(rule) or "")
            )
            lines.append(
                f"| {code} {rule.__name__.replace('_', ' ')} | {meaning[0].upper()}{meaning[1:]} |"
            )
    return "\n".join(lines) + "\n"


_RULES = {
    "Data": DATA_RULES,
    "Expectations": EXPECT_RULES,
    "Features": FEATURE_RULES,
    "Tables": TABLE_RULES,
    "Serving": SERVING_RULES,
    "Everything else": OPERATION_RULES,
}


def declaration_page() -> str:
    """Every part of a declaration: its fields, what they may be, and their defaults."""
    lines = ["# The declaration, field by field", "", WRITTEN, ""]
    lines += [
        "A duration is a number with a unit, us, ms, s, min, h or d: `'90 min'`, `'7 d'`. Text, number and list mean what they"
    ]
    lines += ["mean in Python. A field without a default has to be given."]
    kinds: list[Any] = [getattr(sevenfold, name) for name in sevenfold.__all__]
    declared: list[Any] = [
        kind
        for kind in kinds
        if dataclasses.is_dataclass(kind) and kind.__module__.startswith("sevenfold.spec.")
    ]
    for kind in [sevenfold.System, *(kind for kind in declared if kind is not sevenfold.System)]:
        lines += [
            "",
            f"## `sf.{kind.__name__}`",
            "",
            *_prose(inspect.getdoc(kind) or ""),
            "",
            "| field | value | default |",
            "|---|---|---|",
        ]
        hints = field_hints(kind)
        lines += [
            f"| `{field.name}` | {wanted(hints[field.name])} | {_default(field)} |"
            for field in dataclasses.fields(kind)
        ]
    return "\n".join(lines) + "\n"


def _default(field: dataclasses.Field[Any]) -> str:
    if field.default is not dataclasses.MISSING:
        return f"`{field.default!r}`"
    if field.default_factory is not dataclasses.MISSING:
        made = field.default_factory()
        return f"`sf.{type(made).__name__}()`" if dataclasses.is_dataclass(made) else f"`{made!r}`"
    return ""


def cli_page() -> str:
    """Every command with its arguments and options, from the command line itself."""
    group = importlib.import_module("sevenfold.cli.main").main
    lines = ["# The command line", "", WRITTEN, "", "```text", *_help(group, "sevenfold"), "```"]
    for path, command in _commands(group, "sevenfold"):
        lines += ["", f"## `{path}`", "", "```text", *_help(command, path), "```"]
    return "\n".join(lines) + "\n"


def good(operation: dict[str, Any]) -> dict[str, Any]:
    """The good answer of an operation, whatever its status."""
    found: dict[str, Any] = next(
        answer for status, answer in operation["responses"].items() if status.startswith("2")
    )
    return found


def http_page() -> str:
    """Every route with its body and answer, from the description that the server gives."""
    described = openapi("", "")
    lines = ["# HTTP", "", WRITTEN, ""]
    lines += [
        "`sevenfold serve` listens on 127.0.0.1:8077 unless told otherwise. Bodies are JSON; a field that is not"
    ]
    lines += [
        "listed is refused. `GET /openapi.json` gives all this to programs. Routes marked with a scope need the header"
    ]
    lines += [
        "`Authorization: Bearer TOKEN` with a token for it, but for `predict` and `metrics` on loopback. Those of `admin` are",
        "on the socket in the home only. [More](../explanation/threat-model.md). An error of any route has one shape:",
        "",
    ]
    lines += [
        "```json",
        '{"error": {"code": "invalid_body", "message": "what is wrong, and what to do",',
    ]
    lines += ['           "path": "$.keys.customer", "request_id": "1f"}}', "```"]
    for path, operations in described["paths"].items():
        for method, operation in operations.items():
            scope = "".join(f" ({one['token'][0]})" for one in operation.get("security", ()))
            lines += ["", f"## `{method.upper()} {path}`{scope}", "", operation["summary"]]
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            answer = good(operation).get("content", {}).get("application/json", {})
            lines += _schema_rows("body", body, described) + _schema_rows(
                "answer", answer, described
            )
    schemas = described["components"]["schemas"]
    parts = [name for name in schemas if re.search(rf"of {name}\b", "\n".join(lines))]
    for name in parts:
        reference = {"schema": {"$ref": f"#/components/schemas/{name}"}}
        lines += ["", f"## {name}", *_schema_rows("field", reference, described)]
    return "\n".join(lines) + "\n"


def _schema_rows(heading: str, content: dict[str, Any], described: dict[str, Any]) -> list[str]:
    reference = content.get("schema", {}).get("$ref")
    if reference is None:
        return []
    schema = described["components"]["schemas"][reference.rpartition("/")[2]]
    required = schema.get("required", [])
    described_as = inspect.cleandoc(schema.get("description") or "")
    lines = ["", described_as, "", f"| {heading} | type | |", "|---|---|---|"]
    for name, kind in schema["properties"].items():
        lines.append(
            f"| `{name}` | {_kind(kind)} | {'' if name in required else 'may be left out'} |"
        )
    return lines


def _kind(schema: dict[str, Any]) -> str:
    """A JSON schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(_kind(option) for option in schema["anyOf"])
    kind = schema.get("type", "anything")
    if kind == "array":
        kind = f"list of {_kind(schema.get('items', {})).partition(' (')[0]}"
    elif kind == "object":
        kind = f"object of {_kind(schema.get('additionalProperties') or {}).partition(' (')[0]}"
    low = schema.get("minimum", schema.get("minItems", schema.get("minLength")))
    high = schema.get("maximum", schema.get("maxItems", schema.get("maxLength")))
    bounds = [f"at least {low}" if low else "", f"at most {high}" if high else ""]
    said = ", ".join(bound for bound in bounds if bound)
    return f"{kind} ({said})" if said else str(kind)


PAGES: dict[str, Callable[[], str]] = {
    "api.md": api_page,
    "batch.md": batch_page,
    "checks.md": checks_page,
    "cli.md": cli_page,
    "declaration.md": declaration_page,
    "errors.md": errors_page,
    "http.md": http_page,
}


def _entry(name: str, value: Any) -> Iterator[str]:
    yield f"### `{name}`"
    if callable(value) and value.__module__ != "builtins":
        yield from ("", "```text", _signature(name, value), "```")
    doc = inspect.getdoc(value) if callable(value) else None
    if doc:
        yield from ("", *_prose(doc))
    if inspect.isclass(value):
        methods = {key: method for key, method in vars(value).items() if inspect.isfunction(method)}
        for key in sorted(key for key in methods if not key.startswith("_")):
            first = (inspect.getdoc(methods[key]) or "").split("\n")[0]
            yield from ("", f"- `.{_signature(key, methods[key])}`: {first}")


def _signature(name: str, value: Any) -> str:
    try:
        signature = str(inspect.signature(value))
    except (TypeError, ValueError):
        return name
    # A default that prints an address would differ in every run; annotations are kept as text, in quotes.
    signature = re.sub(r"<(?:class|function|factory)[^>]*>", "...", signature)
    signature = re.sub(r"(: |-> )'([^']*)'", r"\1\2", signature).removesuffix(" -> None")
    return f"{name}{signature.replace('(self, ', '(').replace('(self)', '()')}"


def _prose(doc: str) -> Iterator[str]:
    for index, paragraph in enumerate(doc.split("\n\n")):
        if index:
            yield ""
        if paragraph.lstrip().startswith((">>>", "    ")):
            yield from ("```text", *paragraph.splitlines(), "```")
        else:
            yield from paragraph.splitlines()


def _tree(kind: type[Exception], indent: str) -> Iterator[str]:
    first = (inspect.getdoc(kind) or "").split("\n")[0]
    yield f"{indent}{kind.__name__:<{max(1, 24 - len(indent))}}{first}"
    for child in sorted(kind.__subclasses__(), key=lambda found: found.__name__):
        if child.__module__ == errors.__name__:
            yield from _tree(child, indent + "  ")


def _commands(group: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if not isinstance(group, click.Group):
        return
    context = click.Context(group, info_name=path)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if command is not None and not command.hidden:
            yield f"{path} {name}", command
            yield from _commands(command, f"{path} {name}")


def _help(command: click.Command, path: str) -> list[str]:
    names = ["-h", "--help"]  # as the group has them: an option once made is kept by its command
    context = click.Context(
        command, info_name=path, max_content_width=100, terminal_width=100, help_option_names=names
    )
    return [line.rstrip() for line in command.get_help(context).splitlines()]


def main() -> int:
    """Write every page; the exit code is 0."""
    folder = ROOT / "docs" / "reference"
    folder.mkdir(exist_ok=True)
    for name, page in PAGES.items():
        (folder / name).write_text(page(), "utf-8")
        print(f"wrote {(folder / name).relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
