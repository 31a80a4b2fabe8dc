"""HTTP servers that misbehave as networks do."""

import http.client
import json
import socket
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


class Server(ThreadingHTTPServer):
    """Answers each request by a function of its number and itself."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, respond):
        super().__init__(("127.0.0.1", 0), Handler)
        self.respond = respond
        self.asked = []
        self.ended = threading.Event()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        self.server.asked.append((self.path, self.headers, body))
        answer = self.server.respond(len(self.server.asked), self, body)
        if answer is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        status, text, headers = answer
        payload = text if isinstance(text, bytes) else (text if isinstance(text, str) else json.dumps(text)).encode()
        self.send_response(status)
        for name, value in {**headers, "content-length": str(len(payload))}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    do_GET = do_POST = do_DELETE = handle_any

    def log_message(self, *_):
        pass


@contextmanager
def serve(respond):
    server = Server(respond)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.ended.set()
        server.shutdown()
        server.server_close()


def answers(*listed):
    """Answers each request with the next of a list, the last one for ever."""
    return serve(lambda number, _handler, _body: listed[min(number, len(listed)) - 1])


def passed_on(target, handler, body):
    host = http.client.HTTPConnection(urlsplit(target).netloc, timeout=30)
    headers = {name: value for name, value in handler.headers.items() if name.lower() not in ("host", "connection")}
    host.request(handler.command, handler.path, body=body, headers=headers)
    answer = host.getresponse()
    text = answer.read()
    host.close()
    return answer.status, text, {"content-type": answer.getheader("content-type") or ""}


def lossy(target):
    """Loses the first answer: the connection ends before it."""

    def respond(number, handler, body):
        answer = passed_on(target, handler, body)
        return None if number == 1 else answer

    return serve(respond)


def silent(target):
    """Passes requests on and no answer back."""

    def respond(_number, handler, body):
        passed_on(target, handler, body)
        handler.server.ended.wait()

    return serve(respond)
