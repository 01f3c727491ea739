"""A server on loopback that serves a folder, and misbehaves as it is told.

It answers ranges with ETags like a real one. `faults[path]` lists what answers instead, one each
time; `always[path]` answers every time. It ends by itself after some requests or some time.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import defaultdict
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from macrec_core.params.network import NetworkParams

# What tests ask of this server: loopback allowed, hardly any waiting.
LOOPBACK = NetworkParams(
    allowed_hosts=["127.0.0.1", "localhost"],
    allow_private_addresses=True,
    max_redirects=3,
    timeout_s=5.0,
    attempts=4,
    first_wait_s=0.001,
    max_wait_s=2.0,
    max_file_bytes=50_000_000,
    max_unpacked_bytes=50_000_000,
    max_unpacked_ratio=100.0,
    max_line_bytes=1_000_000,
)


class MisbehavingServer:
    """Serves a folder; use as a context manager.

    Args:
        folder: root of all paths.
        bytes_per_s: how fast bodies are sent; None for at once.
        max_requests: after these many every request gets status 503.
        life_s: seconds after which it stops by itself.
    """

    def __init__(self, folder, bytes_per_s=None, max_requests=5000, life_s=300.0):
        self.folder = folder
        self.bytes_per_s = bytes_per_s
        self.faults = defaultdict(list)  # path -> functions of the handler and the file's bytes
        self.always = {}
        self.requests = []  # (path, Range header), in order of arrival
        self.times = []  # of arrival, seconds
        self.stopped = threading.Event()
        self._left = max_requests
        self._lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 10.0
            server_side = outer

            def log_message(self, *args):
                pass

            def do_GET(self):
                try:
                    outer.answer(self)
                except (BrokenPipeError, ConnectionResetError):  # the client went away
                    self.close_connection = True

        class Http(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request, client_address):
                """Nothing: clients are cut and killed on purpose."""

        self.http = Http(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}"
        self._end = threading.Timer(life_s, self.stop)
        self._end.daemon = True

    def __enter__(self):
        threading.Thread(target=self.http.serve_forever, args=(0.01,), daemon=True).start()
        self._end.start()
        return self

    def __exit__(self, *error):
        self._end.cancel()
        self.stop()
        self.http.server_close()

    def stop(self):
        self.stopped.set()
        self.http.shutdown()

    def answer(self, handler):
        with self._lock:
            self.requests.append((handler.path, handler.headers.get("Range")))
            self.times.append(time.monotonic())
            self._left -= 1
            waiting = self.faults[handler.path]
            fault = waiting.pop(0) if waiting else self.always.get(handler.path)
        path = self.folder / handler.path.lstrip("/")
        data = path.read_bytes() if path.is_file() else None
        if self._left < 0:
            send(handler, 503, b"too many requests for a test")
        elif fault is not None:
            fault(handler, data)
        elif data is None:
            send(handler, 404, b"no such file")
        else:
            serve(handler, data)

    def ranges(self, path):
        """Range headers of the requests for a path."""
        return [found for asked, found in self.requests if asked == path]


def etag(data):
    return f'"{hashlib.sha256(data).hexdigest()[:16]}"'


def serve(handler, data, tag=None, ignore_if_range=False):
    """A correct answer, partial if asked for."""
    tag = tag or etag(data)
    asked, same = handler.headers.get("Range"), handler.headers.get("If-Range")
    if not asked or (same and same != tag and not ignore_if_range):
        return send(handler, 200, data, ETag=tag)
    start = int(asked.removeprefix("bytes=").rstrip("-"))
    if start >= len(data):
        return send(handler, 416, b"", Content_Range=f"bytes */{len(data)}")
    span = f"bytes {start}-{len(data) - 1}/{len(data)}"
    return send(handler, 206, data[start:], ETag=tag, Content_Range=span)


def send(handler, status, body, length=None, **headers):
    """Any answer; `length` is what Content-Length says, if not the truth."""
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body) if length is None else length))
    for name, value in headers.items():
        handler.send_header(name.replace("_", "-"), value)
    if length is not None:
        handler.close_connection = True
    handler.end_headers()
    rate = handler.server_side.bytes_per_s
    if rate is None:
        handler.wfile.write(body)
        return
    step = max(1, int(rate / 100))
    for start in range(0, len(body), step):
        handler.wfile.write(body[start : start + step])
        if handler.server_side.stopped.wait(0.01):
            return


# ------------------------------------------------------------------------------------- faults


def cut_after(count, tag=None):
    """Promises the whole file, and hangs up after some bytes; tag "" sends no ETag."""

    def fault(handler, data):
        headers = {"ETag": tag or etag(data)} if tag != "" else {}
        send(handler, 200, data[:count], length=len(data), **headers)

    return fault


def status(code, **headers):
    return lambda handler, data: send(handler, code, b"<html>sorry</html>", **headers)


def stalled(after, seconds=30.0):
    """Sends some bytes, then nothing for long."""

    def fault(handler, data):
        send(handler, 200, data[:after], length=len(data), ETag=etag(data))
        handler.wfile.flush()
        handler.server_side.stopped.wait(seconds)

    return fault


def trickle(handler, data):
    """A byte now and then, for ever as it seems."""
    send(handler, 200, b"", length=len(data), ETag=etag(data))
    for place in range(len(data)):
        handler.wfile.write(data[place : place + 1])
        if handler.server_side.stopped.wait(0.03):
            return


def held(leave, entered=None):
    """A correct answer, but only once an event is set; another event tells of the request."""

    def fault(handler, data):
        if entered is not None:
            entered.set()
        leave.wait(60)
        serve(handler, data)

    return fault


def wrong_length(change):
    """Sends the whole file, but promises more or fewer bytes."""

    def fault(handler, data):
        start = int((handler.headers.get("Range") or "bytes=0-")[6:-1])
        if start >= len(data) + change:
            return send(handler, 416, b"", Content_Range=f"bytes */{len(data) + change}")
        head = {"ETag": etag(data)}
        if start:
            head["Content_Range"] = f"bytes {start}-{len(data) + change - 1}/{len(data) + change}"
        code, left = (206 if start else 200), data[start:]
        send(handler, code, left, length=len(left) + change, **head)

    return fault


def page(handler, data):
    """A web page with status 200, as of a login or a full host."""
    send(handler, 200, b"<!DOCTYPE html><html>please log in</html>", Content_Type="text/html")


def truncated(count):
    """A file that is cut on the server itself, so that its length is right."""
    return lambda handler, data: serve(handler, data[:count], tag='"cut"')


def other(body, tag=None, ignore_if_range=False):
    """Another body in place of the file's."""
    return lambda handler, data: serve(handler, body, tag, ignore_if_range)


def redirect(target, code=302):
    return lambda handler, data: send(handler, code, b"", Location=target)
