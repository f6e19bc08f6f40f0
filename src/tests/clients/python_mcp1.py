#!/usr/bin/env python3
"""The official Python SDK, first generation (legacy era only), over each of its transports that has an address."""

from contextlib import asynccontextmanager

from mcp import ClientSession
from mcp.client.sse import sse_client
from mcp.client.streamable_http import streamablehttp_client
from mcp.client.websocket import websocket_client

from common import plain, run


@asynccontextmanager
async def streams(options):
    if options.transport == "ws":  # It can't set headers.
        async with websocket_client(f"{options.url}?api_key={options.key}") as (read, write):
            yield read, write
    elif options.transport == "sse":
        async with sse_client(options.url, headers=options.headers) as (read, write):
            yield read, write
    else:
        async with streamablehttp_client(options.url, headers=options.headers) as (read, write, _):
            yield read, write


async def exercise(options) -> dict:
    async with streams(options) as (read, write), ClientSession(read, write) as session:
        version = (await session.initialize()).protocolVersion
        tools, cursor = [], None
        while True:
            page = await session.list_tools(cursor)
            tools += [tool.name for tool in page.tools]
            cursor = page.nextCursor
            if cursor is None:
                break
        results = {}
        for name, arguments in options.calls.items():
            results[name] = plain(await session.call_tool(name, arguments))
    return {"protocolVersion": version, "tools": tools, "results": results}


if __name__ == "__main__":
    run("python-mcp1", ["http", "sse", "ws"], exercise)
