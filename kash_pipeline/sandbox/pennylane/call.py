"""One authorised request as the handlers see it, and the answer they give.

Nothing is decided here. Making a call out of an HTTP request belongs to app.py, acting on it to the modules of the
records.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from kash_pipeline.sandbox.pennylane.answers import Json
from kash_pipeline.sandbox.pennylane.checks import API, Operation


@dataclass(frozen=True)
class Identity:
    """Who a token speaks for. `user` is false for a company API token."""

    grant_id: int
    company_id: int
    company_name: str
    reg_no: str
    scopes: tuple[str, ...]
    user: bool


@dataclass(frozen=True)
class Upload:
    """The parts of a multipart body: text fields, and files as (file name, content type, content)."""

    fields: dict[str, str]
    files: dict[str, tuple[str, str, bytes]]


@dataclass(frozen=True)
class Call:
    """A request that fits the contract, inside a transaction that is committed when the handler returns."""

    operation: Operation
    connection: Connection
    identity: Identity
    parameters: dict[str, Any]
    body: Any
    base_url: str
    now: datetime

    @property
    def company(self) -> int:
        return self.identity.company_id

    def url(self, path: str) -> str:
        """An absolute link into the API, such as `url("journals/12")`."""
        return f"{self.base_url}{API}/{path}"


@dataclass(frozen=True)
class Answer:
    status: int
    body: Json | list[Json] | None = None
