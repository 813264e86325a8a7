"""Memory and start-up time of a real actor process, against a learner that only says hello.

    python benchmarks/actor_process.py [--repeats 5]

A gRPC server in this process answers Describe and Join and keeps the Work stream open. Start-up is counted from the
start of the process to its first frame on the stream; the share of importing and building the environment is measured
in a process of its own and named beside it. Prints one line of JSON; medians over the repeats.
"""

from __future__ import annotations

import argparse
import json
import queue
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent import futures

import grpc
import psutil

from covey.channel import SERVER_OPTIONS
from covey.envs import load_environment, read_spaces
from covey.rows import RowSchema
from covey.v1 import actor_service_pb2, actor_service_pb2_grpc, environment_pb2
from covey_actor.workers import actor_arguments, start_worker

ENVIRONMENT = "mpe2.simple_speaker_listener_v4"
CONFIG = '{"continuous_actions": true}'

# What an actor has imported before it loads the environment, then the environment, timed.
ENVIRONMENT_TIME = f"""
import time
import covey_actor.process
began = time.perf_counter()
from covey.envs import load_environment
load_environment({ENVIRONMENT!r}, {json.loads(CONFIG)!r})()
print(time.perf_counter() - began)
"""


class Greeter(actor_service_pb2_grpc.ActorServiceServicer):
    """Says what to run, accepts everybody, and orders nothing."""

    def __init__(self) -> None:
        env = load_environment(ENVIRONMENT, json.loads(CONFIG))()
        self._schema = RowSchema.of(read_spaces(env))
        self.frames: queue.Queue[float] = queue.Queue()
        self.server = grpc.server(futures.ThreadPoolExecutor(max_workers=4), options=SERVER_OPTIONS)
        actor_service_pb2_grpc.add_ActorServiceServicer_to_server(self, self.server)
        self.address = f"127.0.0.1:{self.server.add_insecure_port('127.0.0.1:0')}"
        self.server.start()

    def Describe(
        self, request: actor_service_pb2.DescribeRequest, context: grpc.ServicerContext
    ) -> actor_service_pb2.DescribeResponse:
        """The environment of the benchmark."""
        del request, context
        return actor_service_pb2.DescribeResponse(
            protocol_version=1,
            environment=environment_pb2.EnvironmentSpec(
                entry_point=ENVIRONMENT, config_json=CONFIG, train_slots=8, eval_slots=8
            ),
        )

    def Join(
        self, request: actor_service_pb2.JoinRequest, context: grpc.ServicerContext
    ) -> actor_service_pb2.JoinResponse:
        """Welcome."""
        del request, context
        return actor_service_pb2.JoinResponse(
            session="s", epoch=1, schema_hash=self._schema.hash, heartbeat_interval_s=5, compression_level=1
        )

    def Work(
        self, request_iterator: Iterator[actor_service_pb2.ActorFrame], context: grpc.ServicerContext
    ) -> Iterator[actor_service_pb2.LearnerFrame]:
        """Notes when the first frame came, and waits for the actor's goodbye."""
        del context
        yield actor_service_pb2.LearnerFrame(heartbeat=actor_service_pb2.Heartbeat())
        for i, frame in enumerate(request_iterator):
            if i == 0:
                self.frames.put(time.perf_counter())
            if frame.WhichOneof("kind") == "finish":
                return

    def FetchPolicy(
        self, request: actor_service_pb2.FetchPolicyRequest, context: grpc.ServicerContext
    ) -> Iterator[actor_service_pb2.PolicyChunk]:
        """No order names a policy."""
        del request
        context.abort(grpc.StatusCode.NOT_FOUND, "no policies here")
        return iter(())


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    greeter = Greeter()
    ready: list[float] = []
    rss: list[float] = []
    torch_loaded = False
    for _ in range(args.repeats):
        began = time.perf_counter()
        actor = start_worker(actor_arguments(greeter.address))
        ready.append(greeter.frames.get(timeout=60) - began)
        time.sleep(0.5)
        process = psutil.Process(actor.pid)
        rss.append(process.memory_info().rss / 1e6)
        torch_loaded |= any("torch" in m.path for m in process.memory_maps())
        actor.terminate()
        actor.wait(timeout=30)
    environment = [
        float(subprocess.run([sys.executable, "-c", ENVIRONMENT_TIME], capture_output=True, check=True).stdout)
        for _ in range(args.repeats)
    ]
    greeter.server.stop(None)
    print(
        json.dumps(
            {
                "environment": ENVIRONMENT,
                "rss_mb": round(statistics.median(rss), 1),
                "ready_s": round(statistics.median(ready), 3),
                "environment_import_s": round(statistics.median(environment), 3),
                "ready_without_environment_s": round(statistics.median(ready) - statistics.median(environment), 3),
                "torch_loaded": torch_loaded,
                "repeats": args.repeats,
            }
        )
    )


if __name__ == "__main__":
    main()
