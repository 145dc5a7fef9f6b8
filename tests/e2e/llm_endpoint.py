"""An endpoint that misbehaves as its path says: /ok/v1, /401/v1, /404/v1, /429/v1, /500/v1, /garbage/v1.

Standard library only: it runs in a pod.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Endpoint(BaseHTTPRequestHandler):
    """Answers a chat completion, as a stream when asked so, or what the path says."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        """One call."""
        asked = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))) or b"{}")
        behaviour = self.path.split("/")[1]
        if behaviour == "garbage":
            self.answer(200, b"<html>It works!</html>", "text/html")
        elif behaviour.isdigit():
            self.answer(int(behaviour), json.dumps({"error": {"message": f"scripted {behaviour}"}}).encode(), "application/json")
        else:
            self.complete(asked)

    def complete(self, asked: dict) -> None:
        """The last message, sent back, and whether a credential came along."""
        key = self.headers.get("authorization", "").removeprefix("Bearer ")
        text = f"echo: {asked['messages'][-1]['content']} (key of {len(key)} characters)"
        usage = {"prompt_tokens": 7, "completion_tokens": 5, "total_tokens": 12}
        if not asked.get("stream"):
            message = {"role": "assistant", "content": text}
            body = {"model": "scripted", "choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": usage}
            self.answer(200, json.dumps(body).encode(), "application/json")
            return
        events = [{"model": "scripted", "choices": [{"index": 0, "delta": {"content": piece}}]} for piece in (text[:5], text[5:])]
        events.append({"model": "scripted", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        events.append({"model": "scripted", "choices": [], "usage": usage})
        lines = "".join(f"data: {json.dumps(event)}\n\n" for event in events) + "data: [DONE]\n\n"
        self.answer(200, lines.encode(), "text/event-stream")

    def answer(self, status: int, body: bytes, kind: str) -> None:
        """Send it."""
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Stay silent."""


if __name__ == "__main__":
    ThreadingHTTPServer(("", int(sys.argv[1])), Endpoint).serve_forever()
