"""The baseline: an ASGI application that reads the body and answers the same bytes every time.

uvicorn takes the number of its processes from `WEB_CONCURRENCY`.
"""

from __future__ import annotations

import sys

ANSWER = (
    b'{"model_name":"lr","model_version":"1.0.0","outputs":'
    b'[{"name":"predict","shape":[1],"datatype":"INT64","data":[1]}]}'
)
START = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", str(len(ANSWER)).encode())],
}
BODY = {"type": "http.response.body", "body": ANSWER}


async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    while (await receive()).get("more_body"):
        pass
    await send(START)
    await send(BODY)


if __name__ == "__main__":
    import uvicorn

    uvicorn.run(
        "benchmarks.static_app:app",
        port=int(sys.argv[1]),
        http="httptools",
        loop="uvloop",
        log_level="critical",
        access_log=False,
    )
