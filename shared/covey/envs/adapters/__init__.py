"""Other interfaces than PettingZoo's, and what makes PettingZoo's of them.

An adapter is chosen by looking at the object that an environment's function returns. Packages add their own by the
entry point group `covey.adapters`, whose entries name an `Adapter`.
"""

from covey.envs.adapters.adapter import Adapter
from covey.envs.adapters.installed import adapter_of
from covey.envs.adapters.reset_first import knows_its_spaces, reset_first

__all__ = ["Adapter", "adapter_of", "knows_its_spaces", "reset_first"]
