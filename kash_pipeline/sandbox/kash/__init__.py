"""Stand-in of Kash.click for the demo, tests and the UI: `create_app(dataset, shop_id=..., key=...)`.

Requests and refusals are in app.py, the guessed form of the answers in shapes.py, the fault switch in faults.py. The
data come from sandbox/datasets.
"""

from kash_pipeline.sandbox.kash.app import CLOSINGS_SCRIPT, Account, create_app
from kash_pipeline.sandbox.kash.faults import Fault, Faults

__all__ = ["CLOSINGS_SCRIPT", "Account", "Fault", "Faults", "create_app"]
