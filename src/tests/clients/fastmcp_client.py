#!/usr/bin/env python3
"""The client of FastMCP, over Streamable HTTP in either era and over HTTP+SSE."""

from fastmcp import Client
from fastmcp.client.transports import SSETransport, StreamableHttpTransport

from common import TIMEOUT_S, run

TRANSPORTS = {"http": StreamableHttpTransport, "sse": SSETransport}


async def exercise(options) -> dict:
    transport = TRANSPORTS[options.transport](options.url, headers=options.headers)
    mode = "auto" if options.era == "modern" else "legacy"
    async with Client(transport, timeout=TIMEOUT_S, mode=mode) as client:
        tools = [tool.name for tool in await client.list_tools()]
        results = {}
        for name, arguments in options.calls.items():
            result = await client.call_tool(name, arguments)
            content = [block.model_dump(by_alias=True, mode="json", exclude_none=True) for block in result.content]
            results[name] = {"content": content, "isError": result.is_error}
    return {"tools": tools, "results": results}


if __name__ == "__main__":
    run("fastmcp", ["http", "sse"], exercise)
