"""Prices, in Python: what an order costs, with a discount for many of one thing.

`orders` asks it by HTTP, as http://pricing.internal/quote; the settings of `orders` grant that. It works the same from outside:

    $ curl http://127.0.0.1:8080/pricing/quote -d '{"lines": [{"sku": "tea", "quantity": 12}]}'
    {"lines": [{"sku": "tea", "quantity": 12, "cents": 5292}], "total_cents": 5292}

    $ curl http://127.0.0.1:8080/pricing/prices
    {"coffee": 890, "cup": 1250, "tea": 490}
"""

import json

import poll_loop
from componentize_py_types import Ok
from poll_loop import Sink, Stream
from wit_world import exports
from wit_world.imports.types import (
    Fields,
    IncomingRequest,
    Method_Get,
    Method_Post,
    OutgoingResponse,
    ResponseOutparam,
)

# What a thing costs, in cents.
PRICES = {"coffee": 890, "cup": 1250, "tea": 490}
# From so many of one thing on, it costs a tenth less.
MANY = 10
BODY_MAX = 64 << 10


class Refused(Exception):
    """What cannot be answered, as a problem document (RFC 9457)."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.body = {"title": title, "status": status, "detail": detail}


def quote(asked: object) -> dict:
    """The prices of these lines. Whole cents: a discount is rounded up, in the shop's favour."""
    lines = asked.get("lines") if isinstance(asked, dict) else None
    if not isinstance(lines, list) or not lines:
        raise Refused(422, "Unprocessable Content", "lines must be a list that is not empty")
    priced = []
    for line in lines:
        sku = line.get("sku") if isinstance(line, dict) else None
        quantity = line.get("quantity") if isinstance(line, dict) else None
        if not isinstance(sku, str) or sku not in PRICES:
            raise Refused(422, "Unprocessable Content", f"there is no price for {json.dumps(sku)[:80]}")
        if not isinstance(quantity, int) or isinstance(quantity, bool) or not 0 < quantity <= 1_000_000:
            raise Refused(422, "Unprocessable Content", f"the quantity of {sku} must be a number from 1 to 1000000")
        cents = PRICES[sku] * quantity
        if quantity >= MANY:
            cents -= cents // 10
        priced.append({"sku": sku, "quantity": quantity, "cents": cents})
    return {"lines": priced, "total_cents": sum(line["cents"] for line in priced)}


async def body_of(request: IncomingRequest) -> bytes:
    stream = Stream(request.consume())
    whole = bytearray()
    while (piece := await stream.next()) is not None:
        whole += piece
        if len(whole) > BODY_MAX:
            raise Refused(413, "Content Too Large", f"the body has more than {BODY_MAX} bytes")
    return bytes(whole)


async def answer(request: IncomingRequest) -> tuple[int, dict]:
    path = (request.path_with_query() or "/").split("?")[0]
    method = request.method()
    if path == "/prices" and isinstance(method, Method_Get):
        return 200, PRICES
    if path == "/quote" and isinstance(method, Method_Post):
        try:
            return 200, quote(json.loads(await body_of(request)))
        except (ValueError, RecursionError):
            raise Refused(400, "Bad Request", "the body is no JSON") from None
    raise Refused(404, "Not Found", "there are GET /prices and POST /quote")


async def respond(request: IncomingRequest, out: ResponseOutparam) -> None:
    try:
        status, body = await answer(request)
        kind = b"application/json"
    except Refused as refused:
        status, body, kind = refused.status, refused.body, b"application/problem+json"
    content = json.dumps(body).encode()
    response = OutgoingResponse(Fields.from_list([("content-type", kind), ("content-length", str(len(content)).encode())]))
    response.set_status_code(status)
    outgoing = response.body()
    ResponseOutparam.set(out, Ok(response))
    sink = Sink(outgoing)
    await sink.send(content)
    sink.close()


class IncomingHandler(exports.IncomingHandler):
    def handle(self, request: IncomingRequest, response_out: ResponseOutparam) -> None:
        loop = poll_loop.PollLoop()
        loop.run_until_complete(respond(request, response_out))
