"""Memory and start-up time of a real actor process.

    python benchmarks/actor_process.py [--repeats 5]            against a learner that only hands out orders
    python benchmarks/actor_process.py --soak 600               against a real one that trains: memory every 5 seconds

Start-up is counted from the start of the process to its first frame on the Work stream; the share of importing and
building the environment is measured in a process of its own and named beside it. Memory is resident memory: when ready,
and at work with 8 training slots and 8 evaluation slots; what the 16 copies of the environment take by themselves (an
MPE environment draws a canvas, seen by nobody) is measured in a process of its own, too. Prints one line of JSON;
medians over the repeats.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.synthetic.learner import OrderingLearner  # noqa: E402

from covey.envs import load_environment, read_spaces  # noqa: E402
from covey.rows import RowSchema  # noqa: E402
from covey.v1.environment_pb2 import EnvironmentSpec  # noqa: E402
from covey.v1.order_pb2 import Order  # noqa: E402
from covey_actor.workers import actor_arguments, start_worker  # noqa: E402

ENVIRONMENT = "mpe2.simple_speaker_listener_v4"
CONFIG = '{"continuous_actions": true}'
TRAIN_SLOTS = EVAL_SLOTS = 8
ORDERS = 50
EXAMPLE = ROOT / "examples" / "page_maddpg.yaml"

# What an actor has imported before it loads the environment, then the environment, timed; then its copies, weighed.
ENVIRONMENT_ALONE = f"""
import time
import covey_actor.process
import psutil
from covey.envs import load_environment  # noqa: E402
began = time.perf_counter()
make = load_environment({ENVIRONMENT!r}, {json.loads(CONFIG)!r})
make()
seconds = time.perf_counter() - began
before = psutil.Process().memory_info().rss
copies = [make() for _ in range({TRAIN_SLOTS + EVAL_SLOTS})]
print(seconds, (psutil.Process().memory_info().rss - before) / 1e6)
"""


def orders(agents: int, count: int) -> list[Order]:
    """Random play in all slots."""
    made = []
    for i in range(count):
        order = Order(order_id=i + 1, noise_seed=i, eval_steps=32)
        order.policies.add(builtin="random")
        for slot in range(TRAIN_SLOTS):
            order.slots.add(slot=slot, steps=32, agent_policies=[0] * agents)
        order.evaluations.add(task_id=i, seeds=range(EVAL_SLOTS), agent_policies=[0] * agents)
        made.append(order)
    return made


def measure(repeats: int) -> dict[str, Any]:
    """So many actors, one after the other."""
    spaces = read_spaces(load_environment(ENVIRONMENT, json.loads(CONFIG))())
    spec = EnvironmentSpec(entry_point=ENVIRONMENT, config_json=CONFIG, train_slots=TRAIN_SLOTS, eval_slots=EVAL_SLOTS)
    ready: list[float] = []
    rss: dict[str, list[float]] = {"ready": [], "at_work": []}
    torch_loaded = False
    for _ in range(repeats):
        learner = OrderingLearner(spec, RowSchema.of(spaces), {})
        began = time.perf_counter()
        actor = start_worker(actor_arguments(learner.address))
        ready.append(learner.first_frames.get(timeout=120) - began)
        time.sleep(0.5)
        process = psutil.Process(actor.pid)
        rss["ready"].append(process.memory_info().rss / 1e6)
        torch_loaded |= any("torch" in m.path for m in process.memory_maps())
        learner.run(orders(len(spaces.agents), ORDERS))
        rss["at_work"].append(process.memory_info().rss / 1e6)
        actor.terminate()
        actor.wait(timeout=30)
        learner.stop()
    alone = [
        subprocess.run([sys.executable, "-c", ENVIRONMENT_ALONE], capture_output=True, check=True).stdout.split()
        for _ in range(repeats)
    ]
    environment_s, copies_mb = (statistics.median(float(line[i]) for line in alone) for i in (0, 1))
    return {
        "environment": ENVIRONMENT,
        "rss_mb": round(statistics.median(rss["ready"]), 1),
        "rss_at_work_mb": round(statistics.median(rss["at_work"]), 1),
        "slots": TRAIN_SLOTS + EVAL_SLOTS,
        "environment_copies_mb": round(copies_mb, 1),
        "ready_s": round(statistics.median(ready), 3),
        "environment_import_s": round(environment_s, 3),
        "ready_without_environment_s": round(statistics.median(ready) - environment_s, 3),
        "torch_loaded": torch_loaded,
        "repeats": repeats,
    }


def soak(seconds: float) -> dict[str, Any]:
    """One actor of a learner that trains the page's population, for so long."""
    with tempfile.TemporaryDirectory() as directory:
        command = [sys.executable, "-m", "covey", "learner", str(EXAMPLE), "--runs", directory]
        command += ["--set", f"training.max_steps={1 << 40}"]
        with Path(directory, "log").open("w") as log:
            learner = subprocess.Popen(command, stdout=log, stderr=log)
        actor = None
        rss: list[float] = []
        try:
            while not (found := list(Path(directory).glob("*/address.json"))):
                if learner.poll() is not None:
                    raise SystemExit(f"the learner ended: {Path(directory, 'log').read_text()}")
                time.sleep(0.1)
            actor = start_worker(actor_arguments(json.loads(found[0].read_text())["address"]))
            process = psutil.Process(actor.pid)
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                time.sleep(5.0)
                rss.append(process.memory_info().rss / 1e6)
        finally:
            for each in (actor, learner):
                if each is not None:
                    each.kill()
                    each.wait()
    return {"example": EXAMPLE.name, "seconds": seconds, "rss_mb_every_5_s": [round(r, 1) for r in rss]} | growth(rss)


def growth(rss: Sequence[float]) -> dict[str, float]:
    """How much more there is in the last quarter than in the second."""
    quarter = len(rss) // 4
    if not quarter:
        return {}
    second, last = rss[quarter : 2 * quarter], rss[-quarter:]
    return {"grown_mb": round(statistics.mean(last) - statistics.mean(second), 2)}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--soak", type=float, metavar="SECONDS")
    args = parser.parse_args()
    print(json.dumps(measure(args.repeats) if args.soak is None else soak(args.soak)))


if __name__ == "__main__":
    main()
