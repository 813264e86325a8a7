"""Other interfaces than PettingZoo's, and what makes PettingZoo's of them.

An adapter is chosen by looking at the object that an environment's function returns. Packages add their own by the
entry point group `covey.adapters`, whose entries name an `Adapter`.
"""

from typing import TYPE_CHECKING

from covey.envs.adapters.adapter import Adapter
from covey.envs.adapters.reset_first import knows_its_spaces, reset_first
from covey.lazy import lazy_exports

if TYPE_CHECKING:
    from covey.envs.adapters.installed import adapter_of as adapter_of

# Most environments need none: the adapters themselves are imported when one is looked for.
__getattr__ = lazy_exports(__name__, {"covey.envs.adapters.installed": ("adapter_of",)})[0]

__all__ = ["Adapter", "adapter_of", "knows_its_spaces", "reset_first"]
