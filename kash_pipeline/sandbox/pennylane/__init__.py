"""A stand-in of PennyLane for the demo, the tests and the UI: the calls of contracts/pennylane-openapi.yaml that a
till's publisher needs, with their state in PostgreSQL (schema `sandbox_pennylane`).

Only the imitated service belongs in this package. Our client of it belongs to kash_pipeline/pennylane/, serving it
over HTTP to sandbox/server.py. Nothing of PennyLane's own was copied.

From the reference (public facts, pennylane-api.md): the paths, bodies, statuses and scopes of the contract; closed
objects with the codes of a 400; 25 requests per 5 s and token, its headers, its plain-text 429; token lives, the
rotation that kills the old pair at once, credentials in the body only; amounts that lose trailing zeros; lines in
another order; default page of 20, newest id first, cursors that hold only a position, null leftovers of the old
paging; several ids for one account number and disabled ones among them; default journals and accounts; no
idempotency and no deletion; a 411 account with each customer and a customer with each 411 account; unique external
references (409); changelogs of lines and customers for four weeks; a freeze date the API does not show; 404 texts.

Our guess, where the reference says "unknown", and always the stricter reading: 422 for a day in a closed or frozen
year, before the freeze date or outside every year; 404 for another company's account and 422 for a disabled one; 422
for a line without exactly one side, with a negative amount or with more than two decimals; 422 for a journal code or
an account number that exists; 422 for changing a lettered line, for lettering several accounts or one that is not
letterable; a second use of a refresh token ends the connection; 401 invalid_grant for a dead refresh token, 400 for a
dead code; the numbers of automatic 411 accounts; which 400 code stands for which failure; null as the user of a
company token; no delay between writing and listing; foreign currencies are taken without conversion.

Not here: exports, webhooks (an empty list), bank transactions (empty lists), categories (none exist).
"""

from kash_pipeline.sandbox.pennylane.admin import Admin, Entry, File, Line
from kash_pipeline.sandbox.pennylane.app import PennylaneSandbox
from kash_pipeline.sandbox.pennylane.browser import approve
from kash_pipeline.sandbox.pennylane.faults import Fault, Faults
from kash_pipeline.sandbox.pennylane.oauth import TokenPair
from kash_pipeline.sandbox.pennylane.store import FiscalYear

create_app = PennylaneSandbox
"""`create_app(engine, *, company, limiter, clients, clock, faults, fiscal_years, access_life, refresh_life)`."""

__all__ = [
    "Admin",
    "Entry",
    "Fault",
    "Faults",
    "File",
    "FiscalYear",
    "Line",
    "PennylaneSandbox",
    "TokenPair",
    "approve",
    "create_app",
]
