#!/usr/bin/env python3
"""Asks the registries whether every package that a template pins is there: bash .ci/run templates.

By hand, since it needs the network: one question a package, one after another. Says each that is missing and ends
with 1; what could not be asked is said too, and ends with 2.
"""

import json
import pathlib
import re
import subprocess
import sys

FILE = pathlib.Path(__file__).parent.parent / "admin" / "src" / "templates.yaml"
PACKAGE = re.compile(r'^  (npm|pypi): "?(@?[^@"\s]+)@([^"\s]+)"?$', re.MULTILINE)


def run(*command: str) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout


def versions(registry: str, name: str) -> list[str]:
    if registry == "npm":
        found = json.loads(run("npm", "view", name, "versions", "--json"))
        return found if isinstance(found, list) else [found]
    listed = run(sys.executable, "-m", "pip", "index", "versions", "--pre", name)
    line = next(line for line in listed.splitlines() if line.startswith("Available versions:"))
    return [version.strip() for version in line.removeprefix("Available versions:").split(",")]


def main() -> int:
    wanted = set(sys.argv[1:])
    missing, unknown, asked = [], [], 0
    for registry, name, version in PACKAGE.findall(FILE.read_text()):
        if wanted and name not in wanted:
            continue
        asked += 1
        try:
            there = version in versions(registry, name)
        except (subprocess.SubprocessError, StopIteration, ValueError):
            unknown.append(f"{registry} {name}")
            continue
        print(f"{'ok     ' if there else 'MISSING'} {registry:4} {name}@{version}", flush=True)
        if not there:
            missing.append(name)
    print(f"{asked} packages asked for, {len(missing)} missing, {len(unknown)} that could not be asked {unknown or ''}")
    return 1 if missing else 2 if unknown or not asked else 0


if __name__ == "__main__":
    sys.exit(main())
