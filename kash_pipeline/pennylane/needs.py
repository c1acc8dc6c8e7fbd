"""What entries name in a company before they can be sent (journals, accounts, customers), and why one is not usable.

The same decision for publishing, which finds or makes what is missing, and for a plan, which only looks. Finding and
making itself is reference.py's and customers.py's.
"""

from collections.abc import Iterable, Mapping

import pandas as pd
import sqlalchemy as sa

from kash_pipeline.pennylane import reference
from kash_pipeline.pennylane.client import PennylaneClient
from kash_pipeline.pennylane.customers import stored_customers, sync_customers, undescribed
from kash_pipeline.pennylane.errors import ReferenceMissing
from kash_pipeline.schemas.columns import empty
from kash_pipeline.schemas.facts import CUSTOMERS
from kash_pipeline.settings import ShopFile
from kash_pipeline.warehouse.ledger import Content, Row

NOT_BUILT = "the entry tables do not hold it any more: build its day again"


class Needs:
    """Ids in one company, as stored and then as `find` adds to them.

    customers   the till's (schemas/facts.py CUSTOMERS)
    make        False: nothing is made or stored, and what could be made counts as there
    journals    ids by code                 books   accounts and customers by the names of comparing.py
    """

    def __init__(
        self,
        client: PennylaneClient,
        engine: sa.Engine,
        shop: ShopFile,
        company_id: int,
        customers: pd.DataFrame | None,
        *,
        make: bool = True,
    ) -> None:
        self._client = client
        self._place = (engine, shop, company_id)
        self._shop = shop
        self._customers = empty(CUSTOMERS) if customers is None else customers
        self._make = make
        self._missing: dict[str, str] = {}
        self._could_be_made: set[str] = set()
        self.journals = reference.stored_journals(*self._place)
        self.books = reference.stored_books(*self._place)

    def find(self, contents: Iterable[Content]) -> None:
        """Find, or make, what these entries name and we do not know. Raises a PennylaneError when PennyLane cannot be
        asked; what it refuses keeps only the entries that name it from being sent, see `blocked`."""
        contents = list(contents)
        named = [
            (name, line.customer_id)
            for content in contents
            for name, line in zip(self.books.line_names(content), content.lines, strict=True)
        ]
        own = {str(customer) for _, customer in named if self.books.own_account(customer)}
        journals = {content.journal for content in contents} - self.journals.keys()
        accounts = {name for name, customer in named if not self.books.own_account(customer)}
        accounts -= self.books.accounts.keys()
        customers = own - self.books.customers.keys()
        if not self._make:
            self._look(journals, accounts, customers)
            return
        if journals:
            try:
                self.journals |= reference.sync_journals(self._client, *self._place, also=journals)
            except ReferenceMissing as error:
                self._missing |= error.each
                self.journals = reference.stored_journals(*self._place)
        if accounts:
            try:
                self.books.accounts |= reference.sync_accounts(self._client, *self._place, also=accounts)
            except ReferenceMissing as error:
                self._missing |= error.each
                self.books.accounts = reference.stored_accounts(*self._place)
        if customers:
            try:
                self.books.customers |= sync_customers(self._client, *self._place, self._customers, customers)
            except ReferenceMissing as error:
                self._missing |= error.each
                self.books.customers = stored_customers(*self._place)

    def _look(self, journals: set[str], accounts: set[str], customers: set[str]) -> None:
        if journals:
            found = reference.journals_found(self._client.journals(), self._shop, sorted(journals))
            self.journals |= found.ids
            self._could_be_made |= {reference.journal_name(code) for code in found.to_make}
            self._missing |= found.missing
        if accounts:
            found = reference.accounts_found(self._client.ledger_accounts(), self._shop, accounts)
            self.books.accounts |= found.ids
            self._could_be_made |= set(found.to_make)
            self._missing |= found.missing
        if customers:
            unknown = undescribed(self._customers, customers)
            self._could_be_made |= {f"customer {customer}" for customer in customers} - unknown.keys()
            self._missing |= unknown

    def blocked(self, content: Content) -> str | None:
        """Why this entry cannot be sent, by name; None when all that it names is there."""
        known = self.books.names(content).ids.keys() | self._could_be_made
        unknown = [name for name in dict.fromkeys(self.books.line_names(content)) if name not in known]
        journal = reference.journal_name(content.journal)
        if content.journal not in self.journals and journal not in known:
            unknown.append(journal)
        return "; ".join(self._missing.get(name, f"PennyLane does not have {name}") for name in unknown) or None

    def blocked_pair(self, reversal: Row | None, contents: Mapping[str, Content]) -> str | None:
        """Why an entry must not take the place of another yet: its reversal could not follow, and both would count.

        `reversal` is None where nothing is to be taken back; `contents` has its lines, by key.
        """
        if reversal is None or reversal.sent_at is not None:
            return None
        content = contents.get(reversal.key)
        why = None if content is None else self.blocked(content)
        if reversal.state in ("refused", "held"):
            why = reversal.error or reversal.state
        return None if why is None else f"its reversal {reversal.key} could not follow: {why}"
