"""Flower on both sides of the wire: apps, adapters and messages.

Flower reads its telemetry switch at import, so it is set before anything here imports flwr.
"""

import os

os.environ.setdefault("FLWR_TELEMETRY_ENABLED", "0")
