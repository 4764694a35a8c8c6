"""An HTTPS proxy behind which CDSE's own hosts are the sandbox: for clients with fixed host names.

It knows only those hosts, so nothing passes through it to any other host.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Mapping
from socket import socket

from s2sr_sandbox.server.faults import Host

#: The hosts that the proxy stands in for: https://documentation.dataspace.copernicus.eu/APIs.html.
CDSE_HOSTS: Mapping[Host, str] = {
    "identity": "identity.dataspace.copernicus.eu",
    "catalogue": "catalogue.dataspace.copernicus.eu",
    "download": "download.dataspace.copernicus.eu",
    "zipper": "zipper.dataspace.copernicus.eu",
    "s3": "eodata.dataspace.copernicus.eu",
}
_BLOCK = 1 << 16
_REFUSED = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"


class Proxy:
    """Takes ``CONNECT`` for port 443 of CDSE's hosts, terminates TLS, and forwards the rest to the sandbox's ports."""

    def __init__(self, listener: socket, context: ssl.SSLContext, ports: Mapping[Host, int]) -> None:
        self._listener = listener
        self._context = context
        self._ports = {f"{name}:443": ports[host] for host, name in CDSE_HOSTS.items()}

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Take connections while the block lasts."""
        server = await asyncio.start_server(self._connected, sock=self._listener)
        try:
            yield
        finally:
            server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            # An error of a client ends its own connection and nothing else.
            with contextlib.suppress(OSError, EOFError, ValueError):
                await self._serve(reader, writer)
        finally:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        method, target, *_ = [*head.decode("latin-1").split(" ", 2), "", ""]
        port = self._ports.get(target.lower())
        if method != "CONNECT" or port is None:
            writer.write(_REFUSED)
            await writer.drain()
            writer.close()
            await writer.wait_closed()
            return
        writer.write(_ESTABLISHED)
        await writer.start_tls(self._context)
        inner_reader, inner_writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            ways = [
                asyncio.ensure_future(_copied(reader, inner_writer)),
                asyncio.ensure_future(_copied(inner_reader, writer)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.gather(*ways, return_exceptions=True)
            writer.close()
            await writer.wait_closed()
        finally:
            inner_writer.transport.abort()


async def _copied(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while block := await reader.read(_BLOCK):
        writer.write(block)
        await writer.drain()
