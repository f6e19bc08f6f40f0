#!/usr/bin/env python3
"""A server over WebSocket by the official Python SDK, first generation: one tool, `reverse`.

usage: websocket_server.py PORT [CERTIFICATE KEY]      serves /mcp on loopback; with a certificate, over TLS
"""

import logging
import sys

import uvicorn
from mcp.server.lowlevel import Server
from mcp.server.websocket import websocket_server
from mcp.types import TextContent, Tool
from starlette.applications import Starlette
from starlette.routing import WebSocketRoute

logging.disable(logging.WARNING)  # A client that asks for the modern era first is warned of at length.
server = Server("reverse")


@server.list_tools()
async def list_tools() -> list[Tool]:
    schema = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}
    return [Tool(name="reverse", description="Turns a text around.", inputSchema=schema)]


@server.call_tool()
async def call_tool(name: str, arguments: dict) -> list[TextContent]:
    return [TextContent(type="text", text=arguments["text"][::-1])]


async def endpoint(websocket) -> None:
    async with websocket_server(websocket.scope, websocket.receive, websocket.send) as (read, write):
        await server.run(read, write, server.create_initialization_options())


port, *pair = sys.argv[1:]
tls = dict(zip(("ssl_certfile", "ssl_keyfile"), pair))
app = Starlette(routes=[WebSocketRoute("/mcp", endpoint)])
uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", **tls)
