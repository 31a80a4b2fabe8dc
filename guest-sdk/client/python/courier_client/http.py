"""Asks a host over HTTP with the standard library, on connections that are kept."""

from __future__ import annotations

import http.client
import io
import os
import socket
import ssl
import threading
import time
from typing import Any
from urllib.parse import urlsplit

from .errors import InvalidError
from .plan import Answer, NoAnswer, Request

ANSWER_LIMIT_BYTES = 64 * 1024 * 1024
"""An answer longer than this is not read on: no host's is."""
KEPT_CONNECTIONS = 16
"""Connections that are kept for the next request."""
KEPT_IDLE_S = 20.0
"""A connection that nobody used for so long is not used again: a host or what
stands before it may be about to close it."""


class _Limited:
    """A socket whose every wait ends at one time: that of ``http.client`` is for
    each read, so that a trickle of bytes could last for ever."""

    def __init__(self, inner: socket.socket) -> None:
        self._inner = inner
        self._readers = 0
        self._is_closed = False
        self.ends_at = 0.0

    def _limit(self) -> socket.socket:
        left = self.ends_at - time.monotonic()
        if left <= 0:
            raise TimeoutError("no answer in time")
        self._inner.settimeout(left)
        return self._inner

    def sendall(self, data: Any) -> None:
        self._limit().sendall(data)

    def makefile(self, mode: str) -> io.BufferedReader:
        self._readers += 1
        return io.BufferedReader(_Incoming(self))

    def recv_into(self, buffer: Any) -> int:
        return self._limit().recv_into(buffer)

    def close(self) -> None:
        # An answer that ends the connection is still to be read then.
        self._is_closed = True
        if self._readers == 0:
            self._inner.close()

    def reader_closed(self) -> None:
        self._readers -= 1
        if self._is_closed:
            self.close()


class _Incoming(io.RawIOBase):
    """What comes in over a socket."""

    def __init__(self, limited: _Limited) -> None:
        self._limited = limited

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._limited.recv_into(buffer)

    def close(self) -> None:
        if not self.closed:
            self._limited.reader_closed()
        super().close()


class Transport:
    """Asks one host. Threads may share it."""

    def __init__(self, url: str, token: str | None, ssl_context: ssl.SSLContext | None) -> None:
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError as error:
            raise InvalidError(f"the host {url!r} is no URL: {error}") from error
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise InvalidError(f"the host {url!r} is no http or https URL")
        self._is_https, self._ssl_context = parts.scheme == "https", ssl_context
        self._host, self._base = parts.hostname, parts.path.rstrip("/")
        # Without a port, http.client takes the end of an IPv6 address for one.
        self._port = port or (443 if self._is_https else 80)
        self._headers = {"accept": "application/json"}
        if token is not None:
            self._headers["authorization"] = f"Bearer {token}"
        self._lock = threading.Lock()
        self._idle: list[tuple[int, float, http.client.HTTPConnection]] = []

    def _connect(self, timeout_s: float) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection
        if self._is_https:
            connection = http.client.HTTPSConnection(self._host, self._port, timeout=timeout_s, context=self._ssl_context)
        else:
            connection = http.client.HTTPConnection(self._host, self._port, timeout=timeout_s)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.sock = _Limited(connection.sock)
        return connection

    def ask(self, request: Request) -> Answer | NoAnswer:
        """Asks once; raises nothing for what the network does."""
        left = request.ends_at - time.monotonic()
        if left <= 0:
            return NoAnswer("no connection was free in time")
        connection = self._take()
        try:
            if connection is None:
                connection = self._connect(left)
            limited: Any = connection.sock
            limited.ends_at = request.ends_at
            headers = dict(self._headers)
            if request.body is not None:
                headers["content-type"] = "application/json"
            if request.traceparent is not None:
                headers["traceparent"] = request.traceparent
            connection.request(request.method, self._base + request.path, body=request.body, headers=headers)
            answer = connection.getresponse()
            text = answer.read(ANSWER_LIMIT_BYTES + 1)
            if len(text) > ANSWER_LIMIT_BYTES:
                connection.close()
                return NoAnswer(f"the answer has more than {ANSWER_LIMIT_BYTES} bytes")
            # Reads the last chunk's end, without which the connection is not free.
            answer.read()
        except (OSError, http.client.HTTPException) as error:
            if connection is not None:
                connection.close()
            return NoAnswer(str(error) or error.__class__.__name__)
        except ValueError as error:
            # A token or trace that no header can have.
            if connection is not None:
                connection.close()
            raise InvalidError(str(error)) from error
        self._keep(connection)
        return Answer(answer.status, text, answer.getheader("retry-after"))

    def _take(self) -> http.client.HTTPConnection | None:
        with self._lock:
            while self._idle:
                process, since, connection = self._idle.pop()
                # Those of the parent stay the parent's after a fork.
                if process == os.getpid() and time.monotonic() - since < KEPT_IDLE_S:
                    return connection
                connection.close()
        return None

    def _keep(self, connection: http.client.HTTPConnection) -> None:
        if connection.sock is None:  # The host closed it with its answer.
            return
        with self._lock:
            if len(self._idle) < KEPT_CONNECTIONS:
                self._idle.append((os.getpid(), time.monotonic(), connection))
                return
        connection.close()

    def close(self) -> None:
        """Closes the connections that are kept."""
        with self._lock:
            idle, self._idle = self._idle, []
        for _, _, connection in idle:
            connection.close()
