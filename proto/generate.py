"""Compile proto/covey/v1 into shared/covey/v1: `python proto/generate.py [--check]`.

With --check nothing is written; the exit status is 1 if the checked-in stubs are not what the protos give.
"""

import argparse
import filecmp
import os
import sys
import tempfile
from pathlib import Path

from grpc_tools import protoc

PROTO = Path(__file__).resolve().parent
STUBS = PROTO.parent / "shared"


def generate(out: Path) -> None:
    """Write messages, services and their type stubs for every proto under out/covey/v1."""
    sources = sorted(str(p) for p in (PROTO / "covey" / "v1").glob("*.proto"))
    include = Path(protoc.__file__).parent / "_proto"
    outputs = (f"--{plugin}_out={out}" for plugin in PLUGINS)
    arguments = ["protoc", f"-I{PROTO}", f"-I{include}", *outputs]
    # protoc looks its plugins up on PATH; ours lie beside the interpreter, also without an activated environment.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    if protoc.main([*arguments, *sources]) != 0:
        sys.exit("proto/generate.py: protoc failed; its message is above")


PLUGINS = ("python", "grpc_python", "mypy", "mypy_grpc")


def stale(fresh: Path) -> list[str]:
    """Names of stubs that are missing, differ, or belong to no proto any more."""
    new = {p.name for p in (fresh / "covey" / "v1").iterdir()}
    old = {p.name for p in (STUBS / "covey" / "v1").iterdir() if "_pb2" in p.name}
    differ = {
        name
        for name in new & old
        if not filecmp.cmp(fresh / "covey" / "v1" / name, STUBS / "covey" / "v1" / name, shallow=False)
    }
    return sorted(differ | (new ^ old))


def main() -> None:
    """Regenerate, or with --check compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="compare, write nothing")
    if not parser.parse_args().check:
        generate(STUBS)
        return
    with tempfile.TemporaryDirectory() as fresh:
        generate(Path(fresh))
        names = stale(Path(fresh))
    if names:
        sys.exit(f"stubs are stale: {', '.join(names)}; run `python proto/generate.py`")


if __name__ == "__main__":
    main()
