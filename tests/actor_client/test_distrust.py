"""The actor trusts a learner no more than the learner an actor: what a hostile one may try, and what comes of it."""

from __future__ import annotations

import json
import logging
import struct
from collections.abc import Callable
from pathlib import Path

import grpc
import pytest
from tests.support.running_actors import Running
from tests.support.scripted_learner import ScriptedLearner
from tests.support.scripted_orders import POLICIES, order

from covey.errors import CoveyError, EnvironmentLoadError, RefusedError
from covey.v1 import actor_service_pb2 as pb
from covey.wire.limits import MAX_SLOTS
from covey.wire.policy_file import policy_sha256
from covey_actor import process
from covey_actor.process import Actor, ActorOptions


def actor(learner: ScriptedLearner, *allow: str) -> Actor:
    return Actor(ActorOptions(learner=learner.address, name="wary", allow_env=allow))


@pytest.mark.parametrize(
    ("entry_point", "config", "says"),
    [
        ("os:system", '{"command": "touch pwned"}', "is not on this actor's allow-list"),
        ("tests.support.environments:counter", "{}", "is not on this actor's allow-list"),
        ("pettingzoo.utils.env_logger:logging.os.system", "{}", "is not on this actor's allow-list"),
        ("pettingzoo_evil.env", "{}", "is not on this actor's allow-list"),
        # Modules of the allowed packages hold more than environments.
        ("pettingzoo.env_registry.spec:_load_env_creator", '{"entry_point": "deploy:go"}', "is not on this actor's"),
        ("pettingzoo.env_registry.registration:make", '{"env_id": "deploy:go"}', "is not on this actor's"),
        ("pettingzoo.utils.conversions:defaultdict", "{}", "is not on this actor's allow-list"),
        ("mpe2.simple_spread_v3:warnings", "{}", "is not on this actor's allow-list"),
        ("x:$(touch pwned)", "{}", "allow-list .*; name it as package.module:function"),
        ("\x1b[2J" + "a" * 10_000, "{}", "is not on this actor's allow-list"),
        ("mpe2.simple_spread_v3", "[" * 30_000, "are not a JSON object"),
        ("mpe2.simple_spread_v3", '{"a": "' + "b" * 70_000 + '"}', "are not a JSON object"),
        ("mpe2.simple_spread_v3", '["N"]', "are not a JSON object"),
    ],
)
def test_it_builds_no_environment_that_was_not_allowed(
    learner: ScriptedLearner, entry_point: str, config: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "deploy.py").write_text("open('pwned', 'w')\ndef go(): ...\n")
    learner.environment.entry_point, learner.environment.config_json = entry_point, config
    with pytest.raises(EnvironmentLoadError, match=says) as refused:
        actor(learner).run()
    assert learner.joins.empty() and [f.name for f in tmp_path.iterdir()] == ["deploy.py"]
    assert str(refused.value).isprintable() and len(str(refused.value)) < 2000


HERE = "tests.actor_client.test_distrust"


@pytest.mark.parametrize("pattern", [HERE, f"{HERE}:borrowed", f"{HERE}*", "tests.*:borrowed", "*"])
def test_what_was_allowed_is_not_refused_once_it_is_imported(learner: ScriptedLearner, pattern: str) -> None:
    learner.environment.entry_point = f"{HERE}:borrowed"
    learner.refuse_join = (grpc.StatusCode.FAILED_PRECONDITION, "far enough")
    with pytest.raises(RefusedError, match="far enough"):
        actor(learner, pattern).run()


def borrowed(length: int) -> object:
    """An environment; `__module__` says that it is from elsewhere, as of one that a library has made."""
    from tests.support.environments import counter

    return counter(length=length)


borrowed.__module__ = "library.elsewhere"


@pytest.mark.parametrize(
    ("train", "evaluate"), [(0, 1), (MAX_SLOTS + 1, 1), (1, MAX_SLOTS + 1), (2**32 - 1, 2**32 - 1)]
)
def test_it_builds_no_more_environments_than_a_machine_has_room_for(
    learner: ScriptedLearner, train: int, evaluate: int
) -> None:
    learner.environment.train_slots, learner.environment.eval_slots = train, evaluate
    with pytest.raises(RefusedError, match=f"wants {train} training and {evaluate} evaluation slots"):
        actor(learner, "tests.*").run()


@pytest.mark.parametrize("interval", [float("nan"), float("inf"), -1.0, 1e-6, 1e9])
def test_it_neither_floods_nor_falls_silent_on_command(learner: ScriptedLearner, interval: float) -> None:
    learner.joined.heartbeat_interval_s = interval
    with pytest.raises(RefusedError, match="wants a heartbeat every"):
        actor(learner, "tests.*").run()


def header(text: bytes, size: int | None = None) -> bytes:
    return struct.pack("<Q", len(text) if size is None else size) + text


def policy_file(**seen: object) -> bytes:
    """The beginning of a policy file whose network reads this."""
    mlp = {"kind": "mlp"}
    seen = {"name": "observation", "width": 4, "copies": 1, "encoder": mlp} | seen
    sizes = {"outputs": 5, "extra": 0, "latent_dim": 8, "min_latent_dim": 8, "max_latent_dim": 8}
    network = {"inputs": [seen], "head": mlp, "output_gain": 1, "log_std": None} | sizes
    return header(json.dumps({"__metadata__": {"covey": json.dumps({"network": network})}}).encode())


BLOBS = {
    "no safetensors": b"junk",
    "a pickle": b"\x80\x05\x8c\x05posix\x8c\x06system\x93\x8c\x04true\x85R.",
    "a header of 2 MB": header(b"{" + b" " * 2_000_000 + b"}"),
    "a header that claims more than there is": header(b"{}", 1 << 60),
    "nested JSON": header(b"[" * 500_000),
    "an observation of 2^40 numbers": policy_file(width=1 << 40),
    "2^25 agents": policy_file(copies=1 << 25),
    "1000 layers": policy_file(encoder={"kind": "mlp", "hidden_size": [64] * 1000}),
    "a layer of 2^33 units": policy_file(encoder={"kind": "mlp", "hidden_size": [1 << 33]}),
    "an encoder that nobody knows": policy_file(encoder={"kind": "os.system"}),
}


@pytest.mark.parametrize("blob", list(BLOBS))
def test_it_takes_no_policy_that_is_none(learner: ScriptedLearner, blob: str) -> None:
    data = BLOBS[blob]
    learner.policies = {policy_sha256(data): data}
    hostile = order(1)
    for ref in hostile.policies:
        ref.sha256 = policy_sha256(data)
    ends_with(learner, lambda work: work.order(hostile), "policy|network spec|hidden|encoder kind")


def test_it_takes_no_policy_that_is_another_than_its_name_says(learner: ScriptedLearner) -> None:
    learner.policies = dict.fromkeys(POLICIES, b"something else")
    ends_with(learner, lambda work: work.order(order(1)), "the learner served 14 bytes of hash")


class DamagedOnce(dict[bytes, bytes]):
    """Policies of which the first that is asked for is another than its name says."""

    asked = 0

    def get(self, sha256: bytes, default: object = None) -> object:  # type: ignore[override]
        self.asked += 1
        return b"something else" if self.asked == 1 else super().get(sha256, default)


def test_a_policy_that_was_damaged_on_its_way_is_fetched_again(learner: ScriptedLearner) -> None:
    learner.policies = policies = DamagedOnce(POLICIES)
    running = Running(learner.address)
    learner.stream().order(order(1))
    again = learner.stream()  # it has broken the connection and come back
    assert again.fragment().order_id == order(1).order_id
    assert policies.asked > len(POLICIES)
    again.ack(1)
    again.drain()
    again.finish()
    assert running.ended() is None


def test_it_holds_no_more_policies_than_it_has_room_for(
    learner: ScriptedLearner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "MAX_ORDER_POLICY_BYTES", 100)
    ends_with(learner, lambda work: work.order(order(1)), "its policies are larger than 100 bytes together")


def test_it_holds_no_more_orders_than_it_has_room_for(learner: ScriptedLearner) -> None:
    def flood(work: object) -> None:
        for i in range(40):
            work.order(order(i + 1, steps=4096))  # type: ignore[attr-defined]

    ends_with(learner, flood, "orders at once, expected at most two")


def test_what_it_is_told_reaches_no_terminal_as_it_is(
    learner: ScriptedLearner, caplog: pytest.LogCaptureFixture
) -> None:
    def abuse(work: object) -> None:
        refusal = pb.Refusal(seq=1, reason="\x1b[31m", detail="\r\nroot logged in" + "x" * 100_000)
        work.down.put(pb.LearnerFrame(ack=pb.Ack(refusals=[refusal])))  # type: ignore[attr-defined]
        work.error(99, "\x1b]0;title\x07 bye")  # type: ignore[attr-defined]

    with caplog.at_level(logging.WARNING):
        ends_with(learner, abuse, "99: ")
    assert caplog.messages and all(m.isprintable() and len(m) < 2000 for m in caplog.messages)


def ends_with(learner: ScriptedLearner, act: Callable[..., None], says: str) -> None:
    """The actor ends with a sentence of one line after the learner's act."""
    running = Running(learner.address)
    act(learner.stream())
    error = running.ended()
    assert isinstance(error, CoveyError), error
    assert str(error).isprintable() and len(str(error)) < 2000
    with pytest.raises(CoveyError, match=says):
        raise error


def test_an_actor_ends_where_its_token_is_not_known(learner: ScriptedLearner) -> None:
    learner.refuse_join = (grpc.StatusCode.UNAUTHENTICATED, "the token is none of this learner's")
    with pytest.raises(RefusedError, match="the token is none"):
        actor(learner, "tests.*").run()
