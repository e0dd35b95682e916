"""A limit to the time that an answer's headers take: a time-out alone begins anew at each byte."""

import threading
import time
from collections.abc import Iterable
from typing import Any

import httpcore2
import httpx2


class Deadline(threading.local):
    """Until when the headers for which this thread waits have to be there."""

    seconds: float | None = None  # from the first reading on; None: however long it takes
    until: float | None = None

    def begin(self, seconds: float) -> None:
        """Give the next answer so many seconds from when it is first waited for."""
        self.seconds, self.until = seconds, None

    def end(self) -> None:
        """Let what is read from now on take its time."""
        self.seconds = self.until = None

    def shorten(self, timeout: float | None) -> float | None:
        """Return how long a reading may wait; raise httpcore2's ReadTimeout when time is up."""
        if self.seconds is None:
            return timeout
        now = time.monotonic()
        if self.until is None:
            self.until = now + self.seconds
        if now >= self.until:
            raise httpcore2.ReadTimeout("the headers arrive too slowly")
        return min(self.until - now, self.seconds if timeout is None else timeout)


class _Stream(httpcore2.NetworkStream):
    """A connection whose readings end in time."""

    def __init__(self, stream: httpcore2.NetworkStream, deadline: Deadline) -> None:
        self._stream, self._deadline = stream, deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        return self._stream.read(max_bytes, self._deadline.shorten(timeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._stream.write(buffer, timeout)

    def close(self) -> None:
        self._stream.close()

    def start_tls(self, *arguments: Any, **options: Any) -> "_Stream":  # noqa: ANN401 - as they come
        return _Stream(self._stream.start_tls(*arguments, **options), self._deadline)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore2's signature
        return self._stream.get_extra_info(info)


class _Backend(httpcore2.NetworkBackend):
    """Opens such connections."""

    def __init__(self, backend: httpcore2.NetworkBackend, deadline: Deadline) -> None:
        self._backend, self._deadline = backend, deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> _Stream:
        """Connect to a host."""
        stream = self._backend.connect_tcp(host, port, timeout, local_address, socket_options)
        return _Stream(stream, self._deadline)

    def sleep(self, seconds: float) -> None:
        """Wait between tries to connect."""
        self._backend.sleep(seconds)


def hurry(transport: httpx2.HTTPTransport, deadline: Deadline) -> httpx2.HTTPTransport:
    """Return a transport, not yet used, whose readings obey the deadline.

    httpcore2 takes such a backend as an argument, but httpx2 has no way to hand it on.
    """
    pool: Any = transport._pool
    pool._network_backend = _Backend(httpcore2.SyncBackend(), deadline)
    return transport
