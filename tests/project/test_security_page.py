"""Every line of docs/security.md that promises something is held by tests, which this page names."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from covey.config.sections import Learner
from covey.networks.network import MAX_PARAMETERS
from covey.wire.channel import SERVER_OPTIONS
from covey.wire.limits import MAX_MESSAGE_BYTES
from covey_server.security.rate_limit import BURST, CALLS_PER_S

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "security.md").read_text()

AUTHORIZATION = "server/security/test_authorization.py"
TLS = "server/security/test_tls.py"
LIMITS = "server/security/test_limits.py"
DISTRUST = "actor_client/test_distrust.py"
WIRE = "system/test_wire.py"
CERTS = "shared/cli/test_certs.py"
CREDENTIALS = "shared/wire/test_credentials.py"

HELD_BY: dict[str, list[tuple[str, str]]] = {
    "ask for client certificates too": [(TLS, "test_who_gets_in_and_what_the_others_read")],
    "give somebody a token of their own": [
        (AUTHORIZATION, "test_tokens_that_change_hold_from_then_on_and_for_open_streams_too")
    ],
    "take a token back": [
        (AUTHORIZATION, "test_tokens_that_change_hold_from_then_on_and_for_open_streams_too"),
        (AUTHORIZATION, "test_a_token_that_was_taken_back_is_gone_however_its_file_was_changed"),
        (DISTRUST, "test_an_actor_ends_where_its_token_is_not_known"),
    ],
    "replace the server certificate": [
        (TLS, "test_a_certificate_is_replaced_while_the_learner_runs"),
        (CERTS, "test_an_actor_can_be_added_and_nothing_is_overwritten"),
    ],
    "add an actor's certificate": [(CERTS, "test_an_actor_can_be_added_and_nothing_is_overwritten")],
    "keep files elsewhere": [(AUTHORIZATION, "test_a_granted_token_is_good_as_long_as_the_process_lives")],
    "`actor`": [(AUTHORIZATION, "test_who_may_do_what_is_what_a_person_would_expect")],
    "`viewer`": [(AUTHORIZATION, "test_who_may_do_what_is_what_a_person_would_expect")],
    "`admin`": [(AUTHORIZATION, "test_every_role_at_every_method")],
    "reads or changes what travels": [
        (TLS, "test_who_gets_in_and_what_the_others_read"),
        (TLS, "test_a_certificate_is_good_for_its_names_alone"),
        (CERTS, "test_certificates_are_for_one_purpose_and_of_one_authority"),
    ],
    "reaches the port without a token": [
        (AUTHORIZATION, "test_every_role_at_every_method"),
        (AUTHORIZATION, "test_a_request_is_not_even_parsed_for_those_who_may_not_make_it"),
    ],
    "guesses tokens": [(AUTHORIZATION, "test_wrong_tokens_are_tried_no_faster_than_calls_may_come")],
    "hopes for a careless person": [
        (TLS, "test_other_machines_are_served_with_tls_and_tokens_or_if_somebody_says_so"),
        (TLS, "test_a_learner_does_not_start_where_it_would_be_open_to_all"),
        (CREDENTIALS, "test_a_token_never_travels_over_a_network_in_plain_text"),
        (CREDENTIALS, "test_a_token_goes_with_every_kind_of_call_on_this_machine_and_past_no_proxy"),
    ],
    "has an actor's token": [
        (AUTHORIZATION, "test_who_may_do_what_is_what_a_person_would_expect"),
        (WIRE, "test_three_lies_and_the_actor_is_sent_away"),
        ("server/ingest/test_validation.py", "test_a_bomb_costs_no_memory"),
        ("fuzz/test_rpcs.py", "test_a_join_that_is_refused_takes_no_memory"),
    ],
    "has an actor's certificate": [(TLS, "test_an_actor_is_called_as_its_certificate_says")],
    "floods": [
        (LIMITS, "test_every_bound_of_a_connection_is_set"),
        (LIMITS, "test_a_host_has_so_many_calls_a_second_and_a_store_of_them"),
        (LIMITS, "test_metadata_and_messages_have_a_size"),
        (LIMITS, "test_a_stream_that_does_not_say_whose_it_is_ends"),
        (AUTHORIZATION, "test_refusals_are_counted"),
    ],
    "probes for internals": [
        (LIMITS, "test_what_goes_wrong_inside_stays_inside"),
        (LIMITS, "test_a_stream_of_junk_ends_without_internals"),
    ],
    "runs a hostile learner": [
        ("shared/envs/test_allow_list.py", "test_nothing_of_the_allowed_packages_can_be_called_but_environments"),
        ("shared/envs/test_allow_list.py", "test_the_decision_imports_nothing"),
        (DISTRUST, "test_it_builds_no_environment_that_was_not_allowed"),
        (DISTRUST, "test_it_takes_no_policy_that_is_none"),
        (DISTRUST, "test_it_builds_no_more_environments_than_a_machine_has_room_for"),
        (DISTRUST, "test_it_neither_floods_nor_falls_silent_on_command"),
        (DISTRUST, "test_it_holds_no_more_orders_than_it_has_room_for"),
        ("shared/cli/test_hostile_texts.py", "test_what_a_learner_says_is_shown"),
        ("shared/cli/test_hostile_texts.py", "test_what_a_foreign_run_holds_is_shown"),
    ],
    "brings a pickle": [("project/test_layering.py", "test_nothing_is_unpickled")],
}
"""By the beginning of each line of the page's tables: test files, and the tests in them."""


def lines_of_tables() -> list[str]:
    """First cells of all rows of all tables, without the headers."""
    rows = re.findall(r"^\| (.*?) \|", PAGE, re.MULTILINE)
    return [cell for cell in rows if cell not in ("to", "role", "somebody who")]


def test_every_line_has_tests_and_no_test_is_of_a_line_that_is_gone() -> None:
    assert lines_of_tables() == list(HELD_BY)


@pytest.mark.parametrize("line", list(HELD_BY))
def test_its_tests_exist(line: str) -> None:
    for file, name in HELD_BY[line]:
        nodes = ast.walk(ast.parse((ROOT / "tests" / file).read_text()))
        functions = {n.name for n in nodes if isinstance(n, ast.FunctionDef)}
        assert name in functions, f"{file} has no {name}"


def test_its_numbers_are_those_that_hold() -> None:
    options = dict(SERVER_OPTIONS)
    for said in (
        f"{options['grpc.max_allowed_incoming_connections']} connections",
        f"{options['grpc.max_concurrent_streams']} streams in each",
        f"{options['grpc.http2.lookahead_bytes'] >> 20} MiB unread in a stream",
        f"messages of {MAX_MESSAGE_BYTES >> 20} MiB",
        f"metadata of {options['grpc.max_metadata_size'] >> 10} KiB",
        f"{options['grpc.max_connection_idle_ms'] // 1000} s for a connection without calls",
        f"{CALLS_PER_S:.0f} calls a second from a host ({BURST:.0f} at once",
        f"{CALLS_PER_S:.0f} wrong ones a second from a host ({BURST:.0f} at once)",
        f"`learner.max_memory_bytes` ({Learner().max_memory_bytes >> 30} GiB)",
        f"2^{MAX_PARAMETERS.bit_length() - 1} parameters",
    ):
        assert said in PAGE, said
