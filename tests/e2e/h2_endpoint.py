"""An OpenAI-compatible endpoint over TLS, by HTTP/2 or HTTP/1.1 as the client chooses; each request is told on standard output.

`h2_endpoint.py PORT CERTIFICATE KEY`. It runs in a pod of the runner image, which has `h2`. The answer says what it came over.
"""

import asyncio
import json
import ssl
import sys

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded


def stream(protocol: str) -> bytes:
    """The answer: a stream of events."""
    events = (
        {"model": "secure", "choices": [{"index": 0, "delta": {"content": "over "}}]},
        {"model": "secure", "choices": [{"index": 0, "delta": {"content": protocol}, "finish_reason": "stop"}]},
        {"model": "secure", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}},
    )
    return ("".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n").encode()


def tell(line: str) -> None:
    """For the test, which reads the pod's log."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection: every request gets the same answer."""
    chosen = writer.get_extra_info("ssl_object").selected_alpn_protocol()
    await (serve_http2 if chosen == "h2" else serve_http1)(reader, writer)
    writer.close()


async def serve_http1(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One request after another; only what this client sends is understood."""
    while head := await reader.readuntil(b"\r\n\r\n"):
        request, *fields = head.decode().split("\r\n")
        length = next(int(field.partition(":")[2]) for field in fields if field.lower().startswith("content-length:"))
        await reader.readexactly(length)
        tell(f"HTTP/1.1: {request.rpartition(' ')[0]}")
        answer = stream("HTTP/1.1")
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ncontent-length: %d\r\n\r\n" % len(answer) + answer)
        await writer.drain()


async def serve_http2(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """As many requests at once as come."""
    h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    h2.initiate_connection()
    writer.write(h2.data_to_send())
    while data := await reader.read(65536):
        for event in h2.receive_data(data):
            match event:
                case RequestReceived(stream_id=number, headers=headers):
                    asked = dict(headers)
                    tell(f"HTTP/2 stream {number}: {asked[':method']} {asked[':path']}")
                case DataReceived(stream_id=number, flow_controlled_length=length):
                    h2.acknowledge_received_data(length, number)
                case StreamEnded(stream_id=number):
                    h2.send_headers(number, [(":status", "200"), ("content-type", "text/event-stream")])
                    h2.send_data(number, stream("HTTP/2"), end_stream=True)
        writer.write(h2.data_to_send())
        await writer.drain()


async def main(port: int, certificate: str, key: str) -> None:
    """Serve for ever."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2", "http/1.1"])
    async with await asyncio.start_server(serve, "", port, ssl=context) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:4]))
