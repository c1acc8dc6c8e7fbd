"""The person at the consent page, for the demo and the tests: reads the page, picks a company, presses the button.

Only that person belongs here; the page belongs to oauth.py.
"""

from html.parser import HTMLParser
from urllib.parse import urljoin

import httpx

from kash_pipeline.sandbox.errors import SandboxError


class _ConsentPage(HTMLParser):
    """Collects the hidden fields, the companies, and the text for an error message."""

    def __init__(self) -> None:
        super().__init__()
        self.fields: dict[str, str] = {}
        self.companies: dict[str, str] = {}
        self.text: list[str] = []
        self._option = ""
        self._in_style = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        self._in_style = tag == "style"
        if tag == "input" and values.get("type") == "hidden":
            self.fields[values["name"]] = values["value"]
        self._option = values["value"] if tag == "option" else ""

    def handle_endtag(self, tag: str) -> None:
        self._option = ""
        self._in_style = False

    def handle_data(self, data: str) -> None:
        if self._option:
            self.companies[data] = self._option
        if data.strip() and not self._in_style:
            self.text.append(data.strip())


def approve(authorize_url: str, *, company: str | None = None, decision: str = "approve") -> str:
    """Walk through the consent page and return the URL it sends the browser to (with `code` and `state`).

    `company` is a name, the first of the list when left out; `decision="refuse"` presses the other button.
    Raises SandboxError with the page's text when it offers no consent.
    """
    with httpx.Client(timeout=10) as client:
        answer = client.get(authorize_url)
        if answer.is_redirect:
            return answer.headers["location"]
        page = _ConsentPage()
        page.feed(answer.text)
        if not page.companies:
            raise SandboxError(
                f"PennyLane's sandbox offers no consent: {' '.join(page.text[-1:])}",
                next_step="check client id and redirect URL against those the sandbox was started with",
            )
        chosen = page.companies[company] if company else next(iter(page.companies.values()))
        answer = client.post(
            urljoin(authorize_url, "/oauth/authorize"), data={**page.fields, "company": chosen, "decision": decision}
        )
        return answer.headers["location"]
