#!/usr/bin/env python3
"""The official Python SDK, second generation, in either era."""

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

from common import TIMEOUT_S, plain, run

MODERN = "2026-07-28"


async def exercise(options) -> dict:
    mode = "auto" if options.era == "modern" else "legacy"
    async with httpx2.AsyncClient(headers=options.headers, timeout=TIMEOUT_S) as http_client:
        async with Client(streamable_http_client(options.url, http_client=http_client), mode=mode) as client:
            version = client.protocol_version
            if (options.era == "modern") != (version == MODERN):
                raise RuntimeError(f"negotiated {version}")
            tools, cursor = [], None
            while True:
                page = await client.list_tools(cursor=cursor)
                tools += [tool.name for tool in page.tools]
                cursor = page.next_cursor
                if cursor is None:
                    break
            results = {}
            for name, arguments in options.calls.items():
                results[name] = plain(await client.call_tool(name, arguments))
    return {"protocolVersion": version, "tools": tools, "results": results}


if __name__ == "__main__":
    run("python-mcp2", ["http"], exercise)
