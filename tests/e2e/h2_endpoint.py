"""An OpenAI-compatible endpoint that speaks HTTP/2 over TLS and nothing else, and tells each request on standard output.

`h2_endpoint.py PORT CERTIFICATE KEY`. It runs in a pod of the runner image, which has `h2`.
"""

import asyncio
import json
import ssl
import sys

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import DataReceived, RequestReceived, StreamEnded

EVENTS = (
    {"model": "secure", "choices": [{"index": 0, "delta": {"content": "over "}}]},
    {"model": "secure", "choices": [{"index": 0, "delta": {"content": "HTTP/2"}, "finish_reason": "stop"}]},
    {"model": "secure", "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}},
)
STREAM = "".join(f"data: {json.dumps(event)}\n\n" for event in EVENTS) + "data: [DONE]\n\n"


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """One connection: every request gets the same stream of events."""
    h2 = H2Connection(H2Configuration(client_side=False, header_encoding="utf-8"))
    h2.initiate_connection()
    writer.write(h2.data_to_send())
    while data := await reader.read(65536):
        for event in h2.receive_data(data):
            match event:
                case RequestReceived(stream_id=stream, headers=headers):
                    asked = dict(headers)
                    sys.stdout.write(f"HTTP/2 stream {stream}: {asked[':method']} {asked[':path']}\n")
                    sys.stdout.flush()
                case DataReceived(stream_id=stream, flow_controlled_length=length):
                    h2.acknowledge_received_data(length, stream)
                case StreamEnded(stream_id=stream):
                    h2.send_headers(stream, [(":status", "200"), ("content-type", "text/event-stream")])
                    h2.send_data(stream, STREAM.encode(), end_stream=True)
        writer.write(h2.data_to_send())
        await writer.drain()
    writer.close()


async def main(port: int, certificate: str, key: str) -> None:
    """Serve for ever."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    async with await asyncio.start_server(serve, "", port, ssl=context) as server:
        await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1]), *sys.argv[2:4]))
