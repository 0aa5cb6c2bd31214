"""Echo server on asyncio or uvloop: echo.py PORT asyncio|uvloop."""

import asyncio
import sys


class Echo(asyncio.Protocol):
    """Answer what comes with itself."""

    def connection_made(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


async def main(port: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(Echo, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


if sys.argv[2] == "uvloop":
    import uvloop

    uvloop.run(main(int(sys.argv[1])))
else:
    asyncio.run(main(int(sys.argv[1])))
