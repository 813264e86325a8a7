"""`python -m covey_actor` runs one actor process, and imports nothing that an actor does not need."""

from __future__ import annotations

import argparse
import os
import sys
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from covey_actor.workers import limit_threads


def main() -> int:
    """Run one actor as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m covey_actor", description=__doc__)
    learner = parser.add_mutually_exclusive_group(required=True)
    learner.add_argument("--learner")
    learner.add_argument(
        "--learner-on-stdin",
        action="store_true",
        help="read HOST:PORT, and a token behind it if the learner asks for one, from stdin as soon as it is known; "
        "leave when stdin ends",
    )
    parser.add_argument("--name")
    parser.add_argument("--env")
    parser.add_argument("--allow-env", action="append", default=[])
    parser.add_argument("--ops", choices=["numpy", "torch"], default="numpy")
    parser.add_argument("--allow-module", action="append", default=[])
    parser.add_argument("--env-path", action="append", default=[], type=Path)
    parser.add_argument("--max-reconnect-s", type=float)
    parser.add_argument("--quiet", action="store_true")
    for flag in ("--ca", "--cert", "--key", "--token-file"):
        parser.add_argument(flag, type=Path)
    parser.add_argument("--stop-on-stdin-eof", action="store_true")
    args = parser.parse_args()
    limit_threads()
    # Imported after the limits are set: numpy's BLAS starts its threads when it is first imported.
    from covey.cli.terminal import protect_standard_streams, say
    from covey.envs import load_environment
    from covey.envs.own_modules import entry_point_of, search
    from covey.errors import ConfigError, EnvironmentLoadError
    from covey.wire.credentials import Credentials
    from covey_actor.process import ActorOptions, run_actor

    protect_standard_streams()
    try:
        credentials = Credentials.load(args.ca, args.cert, args.key, args.token_file)
        search(*args.env_path)
        # A file is a name for this actor's own option alone, never for the learner.
        env = args.env and entry_point_of(args.env, Path.cwd())
    except (ConfigError, EnvironmentLoadError) as exc:
        say(f"covey actor: {exc}", error=True)
        return exc.exit_code
    if args.learner_on_stdin:
        if env is not None:
            # While the learner starts. What is wrong with it is told when it is loaded for a learner that is there.
            with suppress(EnvironmentLoadError):
                load_environment(env, {})
        address, token = read_learner()
        if not address:
            return 0  # the process that started this one has given up
        args.learner, args.stop_on_stdin_eof = address, True
        credentials = replace(credentials, token=token or None)
    options = ActorOptions(
        learner=args.learner,
        name=args.name,
        env=env,
        allow_env=tuple(args.allow_env),
        ops=args.ops,
        allow_module=tuple(args.allow_module),
        max_reconnect_s=args.max_reconnect_s,
        credentials=credentials,
    )
    return run_actor(options, stop_on_stdin_eof=args.stop_on_stdin_eof, quiet=args.quiet)


def read_learner() -> tuple[str, str]:
    """Wait for the learner's address and token on the first line of stdin; both are empty if stdin ends before.

    Not through sys.stdin, which would read further than the line.
    """
    line = b""
    while not line.endswith(b"\n"):
        byte = os.read(0, 1)
        if not byte:
            return "", ""
        line += byte
    address, _, token = line.decode().strip().partition(" ")
    return address, token


if __name__ == "__main__":
    sys.exit(main())
