"""Set before anything imports numpy or torch: tests share the cores with the processes they start."""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
