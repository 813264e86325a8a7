"""Every decoder of what comes from a wire, a disk or a person."""

from tests.fuzz.disk import DISK
from tests.fuzz.orders import ORDERS
from tests.fuzz.target import Target
from tests.fuzz.text import TEXT
from tests.fuzz.wire import WIRE

TARGETS: tuple[Target, ...] = (*WIRE, *TEXT, *DISK, *ORDERS)
