"""Greets people by name. Knows nothing of hosts and components, so its tests run in any Python.

    $ curl http://127.0.0.1:8080/{{name}}/Ada
    {"text": "Hello, Ada!"}
"""

import json
from urllib.parse import unquote

NAME_MAX = 50


def answer(method: str, path: str, body: bytes) -> tuple[int, str, bytes]:
    """The status, the content type and the body of the response."""
    name = unquote(path.strip("/"))
    if method not in ("GET", "HEAD"):
        return problem(405, "Method Not Allowed", "there is only GET")
    if not name:
        return 200, "text/plain; charset=utf-8", b"Ask for a greeting: /{{name}}/Ada\n"
    if len(name) > NAME_MAX:
        return problem(400, "Bad Request", f"a name has at most {NAME_MAX} characters")
    return 200, "application/json", json.dumps({"text": f"Hello, {name}!"}).encode()


def problem(status: int, title: str, detail: str) -> tuple[int, str, bytes]:
    """What cannot be answered, as a problem document (RFC 9457)."""
    content = json.dumps({"title": title, "status": status, "detail": detail})
    return status, "application/problem+json", content.encode()
