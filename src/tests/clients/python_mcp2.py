#!/usr/bin/env python3
"""The official Python SDK, second generation, in either era.

usage: python_mcp2.py URL [KEY] [--era legacy|modern] [--calls JSON], or MPG_TEST_URL and MPG_TEST_KEY.
Prints one line of JSON; exits with 1 on any failure.
"""

import argparse
import asyncio
import json
import os
import sys

import httpx2
from mcp.client.client import Client
from mcp.client.streamable_http import streamable_http_client

TIMEOUT_S = 60
MODERN = "2026-07-28"

# One tool of each example server: npm's server-everything, and PyPI's mcp-server-time.
CALLS = {"echo": {"message": "through the gateway"}, "get_current_time": {"timezone": "Etc/UTC"}}


async def exercise(url: str, key: str | None, era: str, calls: dict) -> dict:
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    mode = "auto" if era == "modern" else "legacy"
    async with httpx2.AsyncClient(headers=headers, timeout=TIMEOUT_S) as http_client:
        async with Client(streamable_http_client(url, http_client=http_client), mode=mode) as client:
            version = client.protocol_version
            if (era == "modern") != (version == MODERN):
                raise RuntimeError(f"negotiated {version}")
            tools, cursor = [], None
            while True:
                page = await client.list_tools(cursor=cursor)
                tools += [tool.name for tool in page.tools]
                cursor = page.next_cursor
                if cursor is None:
                    break
            results = {}
            for name, arguments in calls.items():
                result = await client.call_tool(name, arguments)
                if result.is_error or not result.content:
                    raise RuntimeError(f"{name}: {result}")
                results[name] = result.model_dump(by_alias=True, mode="json", exclude_none=True)
    return {"client": "python-mcp2", "era": era, "protocolVersion": version, "tools": tools, "results": results}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url", nargs="?", default=os.environ.get("MPG_TEST_URL"))
    parser.add_argument("key", nargs="?", default=os.environ.get("MPG_TEST_KEY"))
    parser.add_argument("--era", choices=["legacy", "modern"], default="legacy")
    parser.add_argument("--calls", type=json.loads, default=CALLS)
    options = parser.parse_args()
    if not options.url:
        parser.error("URL is missing")
    print(json.dumps(asyncio.run(exercise(options.url, options.key, options.era, options.calls))))


if __name__ == "__main__":
    try:
        main()
    except Exception as error:  # The one place that turns a failure into an exit code.
        print(f"python-mcp2: {error!r}", file=sys.stderr)
        sys.exit(1)
