"""A way to the database that breaks when it is told to: connections are cut, nobody gets through, or the answer of one call is lost
after the call was carried out."""

from __future__ import annotations

import re
import socket
import struct
import threading
import time
from contextlib import suppress

#: How long the database gets to commit a call whose answer is to be lost.
_COMMIT = 0.15


class Proxy:
    """Listens on a port of this machine and hands everything on."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._lock = threading.Lock()
        self._pairs: set[Pair] = set()
        self._closed = False
        self._away = False
        self._lose: list[re.Pattern[bytes]] = []
        self.lost: list[str] = []
        self.calls: dict[str, int] = {}
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Closes all connections."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.close()

    def away(self, away: bool) -> None:
        """Whether the database is out of reach."""
        self._away = away
        if away:
            self.cut()

    def lose_answer(self, function: str) -> None:
        """The answer of the next call of a function is lost, and its connection with it."""
        self._lose.append(re.compile(rb"\b" + function.encode() + rb"\s*\("))

    def close(self) -> None:
        """Ends."""
        self._closed = True
        with suppress(OSError):
            self._server.close()
        self.cut()

    def _accept(self) -> None:
        while not self._closed:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            if self._away:
                client.close()
                continue
            try:
                server = connected(self._target)
            except OSError:
                client.close()
                continue
            pair = Pair(self, client, server)
            with self._lock:
                self._pairs.add(pair)
            pair.start()

    def gone(self, pair: Pair) -> None:
        with self._lock:
            self._pairs.discard(pair)

    def loses(self, text: bytes) -> bool:
        """Whether the answer of this statement is to be lost; that is true once."""
        for called in re.findall(rb"\b(\w+)\s*\(", text):
            name = called.decode()
            self.calls[name] = self.calls.get(name, 0) + 1
        for pattern in self._lose:
            if pattern.search(text):
                self._lose.remove(pattern)
                self.lost.append(pattern.pattern.decode())
                return True
        return False


def connected(target: tuple[str, int]) -> socket.socket:
    """A connection by TCP, or by a socket in a folder."""
    host, port = target
    if not host.startswith("/"):
        connection = socket.create_connection(target)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(f"{host}/.s.PGSQL.{port}")
    return connection


class Pair:
    """A connection and its continuation."""

    def __init__(self, proxy: Proxy, client: socket.socket, server: socket.socket) -> None:
        self._proxy = proxy
        self._client = client
        self._server = server
        self._losing = False
        self._statements: dict[bytes, bytes] = {}
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def start(self) -> None:
        for work in (self._requests, self._answers):
            threading.Thread(target=self._guarded, args=(work,), daemon=True).start()

    def close(self) -> None:
        for end in (self._client, self._server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            with suppress(OSError):
                end.close()
        self._proxy.gone(self)

    def _guarded(self, work: object) -> None:
        try:
            work()  # type: ignore[operator]
        except OSError:
            pass
        finally:
            self.close()

    def _requests(self) -> None:
        rest = b""
        begun = False
        while data := self._client.recv(65536):
            rest += data
            if not begun:
                # The first message has no letter.
                if len(rest) < 8:
                    continue
                length = struct.unpack("!I", rest[:4])[0]
                if struct.unpack("!I", rest[4:8])[0] >> 16 != 1234:
                    begun = True
                rest = rest[length:]
            while begun and len(rest) >= 5:
                length = 1 + struct.unpack("!I", rest[1:5])[0]
                if len(rest) < length:
                    break
                self._look(rest[:1], rest[5:length])
                rest = rest[length:]
            self._server.sendall(data)

    def _look(self, kind: bytes, body: bytes) -> None:
        text = b""
        if kind == b"Q":
            text = body
        elif kind == b"P":
            name, text = body.split(b"\0", 2)[:2]
            self._statements[name] = text
            if name:
                # It counts when it is executed.
                text = b""
        elif kind == b"B":
            name = body.split(b"\0", 2)[1]
            text = self._statements.get(name, b"") if name else b""
        if text and self._proxy.loses(text):
            self._losing = True

    def _answers(self) -> None:
        while data := self._server.recv(65536):
            if self._losing:
                time.sleep(_COMMIT)
                return
            self._client.sendall(data)
