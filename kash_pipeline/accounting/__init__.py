"""The accounting engine: facts in, balanced entries out, nothing else.

Pure pandas and numpy: no files, no database, no network, no clock. Reading facts is pos/, keeping entries is
warehouse/, sending them is pennylane/.
"""

from kash_pipeline.accounting.build import BuildResult, build, carry_before, trial_balance
from kash_pipeline.accounting.carry import Carry
from kash_pipeline.accounting.errors import AccountingError

__all__ = ["AccountingError", "BuildResult", "Carry", "build", "carry_before", "trial_balance"]
