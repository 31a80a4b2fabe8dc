"""`wasi:http` as a component speaks it: one request, and its whole answer."""

# mypy: ignore-errors
# The modules of `wit_world` exist while a component is made, and nowhere else.

from __future__ import annotations

from componentize_py_types import Err, Ok
from wit_world.imports import outgoing_handler, streams
from wit_world.imports import wasi_http_types as wasi

from .http import HttpError, HttpRequest, HttpResponse

_WRITE_BYTES = 4096
_READ_BYTES = 64 * 1024

_METHODS = {
    "GET": wasi.Method_Get,
    "HEAD": wasi.Method_Head,
    "POST": wasi.Method_Post,
    "PUT": wasi.Method_Put,
    "DELETE": wasi.Method_Delete,
    "OPTIONS": wasi.Method_Options,
    "PATCH": wasi.Method_Patch,
}
_TOLD = {
    wasi.ErrorCode_ConnectionRefused: ("unreachable", "connection refused"),
    wasi.ErrorCode_ConnectionTimeout: ("unreachable", "no connection in time"),
    wasi.ErrorCode_DnsError: ("unreachable", "no such name"),
    wasi.ErrorCode_DnsTimeout: ("unreachable", "no such name"),
    wasi.ErrorCode_DestinationIpUnroutable: ("unreachable", "no way to the host"),
    wasi.ErrorCode_DestinationUnavailable: ("unreachable", "no way to the host"),
    wasi.ErrorCode_ConnectionLimitReached: ("unreachable", "too many requests under way"),
    wasi.ErrorCode_TlsCertificateError: ("unreachable", "certificate is not trusted"),
    wasi.ErrorCode_TlsProtocolError: ("unreachable", "tls: no handshake"),
    wasi.ErrorCode_HttpProtocolError: ("broken", "answer is no HTTP/1.1"),
    wasi.ErrorCode_HttpResponseHeaderSectionSize: ("broken", "answer has too many headers"),
    wasi.ErrorCode_ConnectionReadTimeout: ("broken", "no answer in time"),
    wasi.ErrorCode_HttpResponseTimeout: ("broken", "no answer in time"),
    wasi.ErrorCode_ConnectionTerminated: ("broken", "connection broke off"),
    wasi.ErrorCode_HttpResponseIncomplete: ("broken", "answer broke off"),
}


def send(request: HttpRequest) -> HttpResponse:
    """Sends a request and reads the whole answer."""
    try:
        outgoing = _head(request)
        options = wasi.RequestOptions()
        if request.timeout is not None:
            options.set_first_byte_timeout(int(request.timeout * 1e9))
        body = outgoing.body()
    except Err as wrong:
        raise HttpError("refused", f"request: it cannot be made: {wrong.value}") from None
    try:
        answer = outgoing_handler.handle(outgoing, options)
    except Err as refused:
        raise _error(refused.value) from None
    with answer:
        # What cannot be written was refused or is broken, which the answer says.
        try:
            with body.write() as stream:
                for start in range(0, len(request.body), _WRITE_BYTES):
                    stream.blocking_write_and_flush(request.body[start : start + _WRITE_BYTES])
            wasi.OutgoingBody.finish(body, None)
        except Err:
            pass
        with answer.subscribe() as ready:
            ready.block()
        result = answer.get()
        if isinstance(result, Ok):
            result = result.value
        if isinstance(result, Ok):
            return _read(result.value)
        if isinstance(result, Err) and result.value is not None:
            raise _error(result.value)
        raise HttpError("broken", "answer: it was lost")


def _head(request: HttpRequest):
    scheme, separator, rest = request.url.partition("://")
    rest = rest.partition("#")[0]
    end = min((at for at in (rest.find("/"), rest.find("?")) if at >= 0), default=len(rest))
    authority, path = rest[:end], rest[end:]
    if not separator or not authority:
        raise HttpError("refused", f"request: {request.url!r} is no URL with a scheme and a host")
    headers = wasi.Fields()
    for name, value in request.headers:
        headers.append(name, value)
    outgoing = wasi.OutgoingRequest(headers)
    known = {"http": wasi.Scheme_Http, "https": wasi.Scheme_Https}.get(scheme.lower())
    outgoing.set_method(_METHODS[request.method]() if request.method in _METHODS else wasi.Method_Other(request.method))
    outgoing.set_scheme(known() if known else wasi.Scheme_Other(scheme))
    outgoing.set_authority(authority)
    outgoing.set_path_with_query(path if path.startswith("/") else f"/{path}")
    return outgoing


def _read(response) -> HttpResponse:
    # Each handle is given back at its end: the number of handles that a reused
    # instance may hold is bounded.
    with response:
        status = response.status()
        with response.headers() as fields:
            headers = list(fields.entries())
        with response.consume() as incoming, incoming.stream() as stream:
            body = bytearray()
            while True:
                try:
                    body += stream.blocking_read(_READ_BYTES)
                except Err as ended:
                    if isinstance(ended.value, streams.StreamError_Closed):
                        return HttpResponse(status, headers, bytes(body))
                    raise HttpError("broken", f"answer: {ended.value.value.to_debug_string()}") from None


def _error(code) -> HttpError:
    if isinstance(code, wasi.ErrorCode_InternalError) and code.value:
        return HttpError("refused", f"refused: {code.value}")
    if isinstance(code, wasi.ErrorCode_TlsAlertReceived):
        return HttpError("unreachable", f"tls: {code.value.alert_message or 'refused'}")
    told = _TOLD.get(type(code))
    return HttpError(*told) if told else HttpError("refused", f"refused: {type(code).__name__.removeprefix('ErrorCode_')}")
