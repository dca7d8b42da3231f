"""`python -m benchmarks NAME [--json] [--repeat N] [--scale S] [--file PATH] [--curve] [--feast PYTHON] [--servers PYTHON] [--seconds N]`."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

from benchmarks.peers.beside import VARIABLE, PeerError, find_feast
from benchmarks.peers.serving import SERVING_VARIABLE, find_servers

NAMES = ("offline", "online", "ingest", "serve", "score", "spike", "parity", "soak")
WITH_FEAST = ("offline", "online", "parity")
WITH_FILE = ("flights", "taxi")


def main() -> int:
    """Run one benchmark; the last line is its report as JSON."""
    parser = argparse.ArgumentParser(prog="benchmarks", description=__doc__)
    parser.add_argument("name", choices=(*NAMES, *WITH_FILE))
    parser.add_argument(
        "--json", action="store_true", help="print the report as one line of JSON, last"
    )
    parser.add_argument("--repeat", type=int, default=5, help="measured runs of each contender")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the full number of rows")
    parser.add_argument(
        "--file", type=Path, help=f"the real file that {', '.join(WITH_FILE)} replay"
    )
    parser.add_argument(
        "--curve", action="store_true", help="ingest: the long curve, to 30 M events"
    )
    parser.add_argument(
        "--feast",
        type=Path,
        help=f"the Python that has Feast installed, to measure {', '.join(WITH_FEAST)} beside it (else {VARIABLE})",
    )
    parser.add_argument(
        "--servers",
        type=Path,
        help=f"the Python that has FastAPI and other model servers, to measure serve beside them (else {SERVING_VARIABLE})",
    )
    parser.add_argument(
        "--seconds", type=float, default=3600.0, help="soak: how long the load lasts"
    )
    options = parser.parse_args()
    try:
        servers = find_servers(options.servers) if options.name == "serve" else None
        python = find_feast(options.feast) if options.name in WITH_FEAST else None
    except PeerError as error:
        parser.error(str(error))
    module = importlib.import_module(f"benchmarks.{options.name}")
    more = {"file": options.file} if options.name in WITH_FILE else {}
    if options.name == "ingest":
        more["curve"] = options.curve
    if options.name == "serve":
        more["servers"] = servers
    if options.name == "soak":
        more["seconds"] = options.seconds
    report = module.run(repeat=options.repeat, scale=options.scale, **more)
    if python is not None:
        peers = importlib.import_module(f"benchmarks.peers.{options.name}")
        peers.run(report, python, repeat=options.repeat, scale=options.scale)
    elif options.name in WITH_FEAST:
        report.notes.append(f"no Feast beside ({VARIABLE} is not set): its keys are left out")
    for key, result in report.results.items():
        print(
            f"{key:36} {result.median:12.4g} {result.unit:10} "
            f"(min {result.min:.4g}, max {result.max:.4g}, n {result.n})",
            file=sys.stderr,
        )
    for key, value in report.ratios.items():
        print(f"{key:36} {value:12.3f}", file=sys.stderr)
    described = report.as_dict(module.PACKAGES)
    print(json.dumps(described) if options.json else json.dumps(described, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
