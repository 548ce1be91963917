"""`/docs`: the OpenAPI document as one plain page, without scripts and without anything from another host."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from html import escape
from typing import Any

import msgspec
from fastapi.responses import HTMLResponse

_STYLE = (
    ":root{color-scheme:light dark}body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;"
    "padding:0 1rem}code,pre{font:14px/1.4 ui-monospace,monospace}pre{overflow:auto}"
    "summary{cursor:pointer;padding:.3rem 0}details{border-top:1px solid light-dark(#ddd,#444)}"
)
_POLICY = (
    f"default-src 'none'; style-src 'sha256-{base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()}'; "
    "frame-ancestors 'none'; base-uri 'none'"
)


def render_reference(document: dict[str, Any]) -> HTMLResponse:
    """Return the page: every route with its parameters and schemas."""
    title = f"{document['info']['title']} {document['info']['version']}"
    operations = "".join(_operations(document["paths"]))
    schemas = "".join(_schemas(document["components"]["schemas"]))
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{escape(title)}: REST</title>'
        f"<style>{_STYLE}</style></head><body><main><h1>{escape(title)}</h1>"
        f'<p>For programs: <a href="/openapi.json">/openapi.json</a>. Predictions: <code>/v2</code> (Open Inference '
        f"Protocol) and <code>POST /api/v1/predict/{{model}}</code>.</p>"
        f"<h2>Routes</h2>{operations}<h2>Schemas</h2>{schemas}</main></body></html>"
    )
    return HTMLResponse(page, headers={"content-security-policy": _POLICY})


def _operations(paths: dict[str, Any]) -> Iterator[str]:
    for path, methods in paths.items():
        for method, operation in methods.items():
            summary = escape(operation.get("description") or operation.get("summary") or "")
            parameters = "".join(
                f"<li><code>{escape(item['name'])}</code> ({escape(item['in'])}) "
                f"{escape(item.get('description') or item['schema'].get('description') or '')}</li>"
                for item in operation.get("parameters", ())
            )
            contents = [operation.get("requestBody", {}), *operation["responses"].values()]
            names = sorted({name for content in contents for name in _names(content)})
            links = ", ".join(f'<a href="#{escape(name)}">{escape(name)}</a>' for name in names)
            yield (
                f"<details><summary><code>{method.upper()} {escape(path)}</code></summary>"
                f"<p>{summary}</p><ul>{parameters}</ul><p>Schemas: {links}</p></details>"
            )


def _names(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        reference = value.get("$ref")
        if isinstance(reference, str):
            yield reference.rpartition("/")[2]
        for child in value.values():
            yield from _names(child)
    elif isinstance(value, list):
        for child in value:
            yield from _names(child)


def _schemas(schemas: dict[str, Any]) -> Iterator[str]:
    for name, schema in schemas.items():
        text = msgspec.json.format(msgspec.json.encode(schema), indent=2).decode()
        yield f'<details id="{escape(name)}"><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>'
