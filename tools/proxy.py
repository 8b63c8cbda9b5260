"""A TCP proxy that can be cut, and joined again: a server that is away and comes back."""

import socket
import threading
import time
from contextlib import suppress
from urllib.parse import urlsplit

BLOCK = 1 << 16


class Proxy:
    """Passes connections on to a server until it is cut, which also ends those that are open.

    Args:
        target: the server's address, such as `http://127.0.0.1:5000`.

    Attributes:
        address: to use in its place.
    """

    def __init__(self, target: str):
        parts = urlsplit(target)
        self._target = parts.hostname, parts.port
        self._listener: socket.socket | None = None
        self._open: set[socket.socket] = set()
        self._trigger: tuple[bytes, float] | None = None
        self._port = 0
        self.join()
        self.address = f"http://127.0.0.1:{self._port}"

    def join(self) -> None:
        """Lets connections through, again."""
        listener = socket.create_server(("127.0.0.1", self._port), backlog=64)
        self._port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def cut(self) -> None:
        """Ends every connection, and refuses new ones."""
        listener, self._listener = self._listener, None
        if listener is not None:
            listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for connection in list(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def cut_for(self, seconds: float) -> None:
        self.cut()
        time.sleep(seconds)
        self.join()

    def cut_when_sent(self, words: bytes, seconds: float) -> None:
        """Cuts once, as soon as a client sends some words, for so many seconds."""
        self._trigger = words, seconds

    @property
    def is_armed(self) -> bool:
        """Whether the words of `cut_when_sent` have not been seen yet."""
        return self._trigger is not None

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target)
            except OSError:
                client.close()
                continue
            for connection in (client, server):  # headers and body come apart, and are not to wait for each other
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._open |= {client, server}
            threading.Thread(target=self._pump, args=(client, server, True), daemon=True).start()
            threading.Thread(target=self._pump, args=(server, client, False), daemon=True).start()

    def _pump(self, source: socket.socket, target: socket.socket, from_client: bool) -> None:
        with suppress(OSError):
            while block := source.recv(BLOCK):
                if from_client and self._trigger and self._trigger[0] in block:
                    (_, seconds), self._trigger = self._trigger, None
                    threading.Thread(target=self.cut_for, args=(seconds,), daemon=True).start()
                    time.sleep(0.05)  # the cut comes before the block
                target.sendall(block)
        for connection in (source, target):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open -= {source, target}
        source.close()
