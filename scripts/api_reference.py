"""Prints docs/api.md, the REST reference, from the OpenAPI documents of the six services: `make docs`."""

import importlib
from collections.abc import Iterator
from typing import Any

from compute_cli.suite import SERVICES

HEADER = """\
# REST reference

Written by `make docs` from the OpenAPI documents that the services serve (`/docs`, `/openapi.json`). Errors
are `application/problem+json` (RFC 9457). With an API key set, every route but the probes, `/metrics` and the
page shell `/` wants `Authorization: Bearer …` or `X-API-Key`. NATS: [nats-subjects.md](nats-subjects.md).
"""
METHODS = ("get", "post", "put", "patch", "delete")
SHELL = ("/healthz", "/livez", "/readyz", "/metrics")

Json = dict[str, Any]


def main() -> None:
    """Print the file."""
    print(render(), end="")


def render() -> str:
    """The whole text of docs/api.md."""
    return "\n".join([HEADER, *(section(name, document) for name, document in documents())])


def documents() -> Iterator[tuple[str, Json]]:
    """Each service's name with its port, and its OpenAPI document."""
    for spec in SERVICES:
        app = importlib.import_module(f"{spec.name.replace('-', '_')}.app").app
        yield f"{spec.name} ({spec.port})", app.openapi()


def section(title: str, document: Json) -> str:
    """One service: its routes, then the records they speak of."""
    routes = [
        _route(path, method, entry[method], document)
        for path, entry in document["paths"].items()
        if path not in SHELL
        for method in METHODS
        if method in entry
    ]
    schemas = document.get("components", {}).get("schemas", {})
    records = [_record(name, schemas[name]) for name in sorted(schemas) if schemas[name].get("properties")]
    return "\n".join(
        [f"## {title}\n", *routes, f"### Records of {title.split(' ', maxsplit=1)[0]}\n", *records]
    )


def _route(path: str, method: str, entry: Json, document: Json) -> str:
    lines = [
        f"**`{method.upper()} {path}`** {_sentence(entry.get('description') or entry.get('summary', ''))}"
    ]
    lines += [
        _line(each["name"], each["schema"], each, required=each.get("required", False))
        for each in entry.get("parameters", [])
    ]
    if body := entry.get("requestBody"):
        lines.append(f"- body: {_content(body)}")
    answers = ", ".join(
        f"{status} {_content(answer)}".strip() for status, answer in entry["responses"].items()
    )
    return "\n".join([*lines, f"- answers: {answers}", ""])


def _record(name: str, schema: Json) -> str:
    required = schema.get("required", [])
    fields = [
        _line(key, value, value, required=key in required) for key, value in schema["properties"].items()
    ]
    return "\n".join([f"**{name}** {_sentence(schema.get('description', ''))}", *fields, ""])


def _line(name: str, schema: Json, described: Json, *, required: bool) -> str:
    default = f", default `{schema['default']}`" if schema.get("default") not in (None, "", [], {}) else ""
    needed = ", required" if required else ""
    means = _sentence(described.get("description", ""))
    return f"- `{name}` ({_type(schema)}{needed}{default}) {means}".rstrip()


def _content(part: Json) -> str:
    kinds = part.get("content", {})
    return " or ".join(
        _type(content.get("schema", {})) if "json" in kind else kind for kind, content in kinds.items()
    )


def _type(schema: Json) -> str:
    if reference := schema.get("$ref"):
        return str(reference).rsplit("/", 1)[-1]
    if options := schema.get("anyOf") or schema.get("oneOf"):
        return " or ".join(dict.fromkeys(_type(option) for option in options))
    if values := schema.get("enum"):
        return " / ".join(str(value) for value in values)
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}))}"
    return str(schema.get("format") or schema.get("type") or "any")


def _sentence(text: str) -> str:
    return " ".join(text.split())


if __name__ == "__main__":
    main()
