"""What the process that workers are forks of loads, and how it ends; see `nursery`."""

from __future__ import annotations

import atexit
import gc
import importlib
import os

gc.disable()  # nothing of what is loaded is garbage
importlib.import_module("fedsim.engines.worker_process")
gc.freeze()  # forks share what nobody writes to
gc.enable()
atexit.register(os._exit, 0)  # at once: to take torch apart, which Python does, takes a second
