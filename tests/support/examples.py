"""How many examples the properties of the tests are tried with: few in the fast loop, many where all tests run.

`COVEY_HYPOTHESIS` names the profile, `dev` or `ci`; without it a run where `CI` is set uses `ci`, any other `dev`.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings

MIN_EXAMPLES = 5


def load_profile() -> None:
    """Choose the profile; before any test module is imported."""
    for name, max_examples in (("dev", 20), ("ci", 100)):
        # How fast examples come says how busy the machine is, and nothing about the code.
        settings.register_profile(
            name, max_examples=max_examples, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        )
    settings.load_profile(os.environ.get("COVEY_HYPOTHESIS") or ("ci" if os.environ.get("CI") else "dev"))


def examples(share: float, **more: Any) -> settings:
    """Settings for a property that needs more or fewer examples than others do: `share` of the profile's."""
    return settings(max_examples=max(MIN_EXAMPLES, round(share * settings().max_examples)), **more)
