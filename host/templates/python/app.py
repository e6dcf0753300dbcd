"""What the host calls: turns a request of `wasi:http` into a call of `greeting.answer`, and what comes back into a response."""

import poll_loop
from componentize_py_types import Ok
from greeting import answer
from poll_loop import Sink, Stream
from wit_world import exports
from wit_world.imports.types import Fields, IncomingRequest, OutgoingResponse, ResponseOutparam

BODY_MAX = 64 << 10


def method_of(request: IncomingRequest) -> str:
    method = request.method()
    # Method_Get, Method_Post, …; others carry their name.
    return getattr(method, "value", type(method).__name__.removeprefix("Method_")).upper()


async def body_of(request: IncomingRequest) -> bytes:
    stream = Stream(request.consume())
    whole = bytearray()
    while len(whole) <= BODY_MAX and (piece := await stream.next()) is not None:
        whole += piece
    return bytes(whole[: BODY_MAX + 1])


async def respond(request: IncomingRequest, out: ResponseOutparam) -> None:
    path = (request.path_with_query() or "/").split("?")[0]
    body = await body_of(request)
    if len(body) > BODY_MAX:
        status, kind, content = 413, "text/plain", b"the body is too large\n"
    else:
        status, kind, content = answer(method_of(request), path, body)
    headers = [("content-type", kind.encode()), ("content-length", str(len(content)).encode())]
    response = OutgoingResponse(Fields.from_list(headers))
    response.set_status_code(status)
    outgoing = response.body()
    ResponseOutparam.set(out, Ok(response))
    sink = Sink(outgoing)
    await sink.send(content)
    sink.close()


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        poll_loop.PollLoop().run_until_complete(respond(request, response_out))
