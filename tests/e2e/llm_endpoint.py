"""An endpoint that does what its path says; each request is told on standard output.

`/ok/v1` echoes, `/401/v1` and every other number fails so, `/garbage/v1` is no endpoint, `/shape/v1` answers with JSON only
when it is told what was wrong with its first answer. `GET /facts` has JSON, `/to-metadata` and `/to-elsewhere` redirect.
Standard library only: it runs in a pod.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

REDIRECTS = {"/to-metadata": "http://169.254.169.254/latest/meta-data/", "/to-elsewhere": "http://elsewhere.invalid/"}


class Endpoint(BaseHTTPRequestHandler):
    """Answers a chat completion, as a stream when asked so, or what the path says."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """What a `fetch` step asks for."""
        if self.path in REDIRECTS:
            self.answer(302, b"", "text/plain", location=REDIRECTS[self.path])
        elif self.path == "/facts":
            self.answer(200, json.dumps({"facts": ["one", "two"]}).encode(), "application/json")
        else:
            self.answer(404, b"there is nothing", "text/plain")

    def do_POST(self) -> None:
        """One call."""
        asked = json.loads(self.rfile.read(int(self.headers.get("content-length", "0"))) or b"{}")
        behaviour = self.path.split("/")[1]
        if behaviour == "garbage":
            self.answer(200, b"<html>It works!</html>", "text/html")
        elif behaviour.isdigit():
            self.answer(int(behaviour), json.dumps({"error": {"message": f"scripted {behaviour}"}}).encode(), "application/json")
        elif behaviour == "shape":
            told = len(asked["messages"]) > 1
            self.complete(asked, '{"edits": ["first", "second"]}' if told else '{"edits": ["first", 2]}')
        else:
            key = self.headers.get("authorization", "").removeprefix("Bearer ")
            self.complete(asked, f"echo: {asked['messages'][-1]['content']} (key of {len(key)} characters)")

    def complete(self, asked: dict, text: str) -> None:
        """The answer, as it was asked for."""
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

    def answer(self, status: int, body: bytes, kind: str, **headers: str) -> None:
        """Send it."""
        sys.stdout.write(f"{self.command} {self.path} {status}\n")
        sys.stdout.flush()
        self.send_response(status)
        for name, value in {"content-type": kind, "content-length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: object) -> None:
        """Our own line is enough."""


class Server(ThreadingHTTPServer):
    """Many pods call at once."""

    request_queue_size = 128


if __name__ == "__main__":
    Server(("", int(sys.argv[1])), Endpoint).serve_forever()
