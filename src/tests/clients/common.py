"""What the Python clients share: their arguments, and the line they print."""

import argparse
import asyncio
import json
import sys
from collections.abc import Awaitable, Callable

TIMEOUT_S = 60


def run(client: str, transports: list[str], exercise: Callable[[argparse.Namespace], Awaitable[dict]]) -> None:
    """Runs `exercise`, prints what it returns as one line of JSON, and exits with 1 on any failure."""
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("key")
    parser.add_argument("--transport", choices=transports, default="http")
    parser.add_argument("--era", choices=["legacy", "modern"], default="legacy")
    parser.add_argument("--calls", type=json.loads, default={}, help="arguments by tool, as JSON")
    options = parser.parse_args()
    options.headers = {"Authorization": f"Bearer {options.key}"}
    try:
        done = asyncio.run(exercise(options))
    except Exception as error:  # The one place that turns a failure into an exit code.
        print(f"{client} ({options.transport}, {options.era}): {error!r}", file=sys.stderr)
        sys.exit(1)
    print(json.dumps({"client": client, "era": options.era, **done}))


def plain(result) -> dict:
    """A result of the SDK as the protocol has it."""
    return result.model_dump(by_alias=True, mode="json", exclude_none=True)
