"""Asking Kash.click for a shop's key: one-time password by e-mail, or the account's password.

Only these documented POST calls belong here (kash-api.md section 2); where the key rests is credentials.py. Two
conventions of result exist side by side, `success: true|false` and `result: "OK"|"ERROR"`: both are understood.
"""

from typing import Any

import httpx

from kash_pipeline.pos.errors import SourceChanged, SourceRefused, SourceUnreachable
from kash_pipeline.pos.kash_api.credentials import Credentials

TIMEOUT = 30.0


def only_account(base_url: str, email: str) -> str | None:
    """The account's id where the address has one shop; None where Kash.click lists none, or not at all.

    Raises SourceRefused, which names them, where it has several, and SourceUnreachable.
    """
    try:
        listed = _answer(base_url, "listShops.php", {"email": email})
    except SourceChanged:
        return None  # documented, but on the way to the key only a help
    if not isinstance(listed, list):
        return None
    found = [
        (str(shop["accountID"]), str(shop.get("accountTitle", "")))
        for shop in listed
        if isinstance(shop, dict) and isinstance(shop.get("accountID"), str | int)
    ]
    if len(found) > 1:
        raise SourceRefused(
            f"{email} has {len(found)} shops: " + ", ".join(f"{title[:60]!r} ({number})" for number, title in found),
            next_step="say which: --account ID, the number in brackets",
        )
    return found[0][0] if found else None


def send_otp(base_url: str, email: str, account: str | None = None) -> None:
    """Have a one-time password sent to the account's e-mail address; `account` is its id where an address has several.

    Raises SourceRefused (unknown account), SourceUnreachable, SourceChanged.
    """
    _post(base_url, "getOTPForAccount.php", {"email": email} | ({"accountID": account} if account else {}))


def with_otp(base_url: str, email: str, otp: str) -> Credentials:
    """Shop id and key for a one-time password. Raises as `send_otp` does."""
    return _granted(_post(base_url, "getAuthTokenWithOTP.php", {"email": email, "otp": otp}))


def with_password(base_url: str, login: str, password: str) -> Credentials:
    """Shop id and key for a password, by the older call: of the newer one (getAuthTokenWithPassword.php) only the name
    is documented, and a password is not sent to a call whose fields are guessed."""
    return _granted(_post(base_url, "getAuthToken.php", {"login": login, "password": password}))


def _answer(base_url: str, script: str, form: dict[str, str]) -> Any:
    # No redirect is followed: it could take the password to another host.
    try:
        response = httpx.post(f"{base_url.rstrip('/')}/{script}", data=form, timeout=TIMEOUT)
        return response.json()
    except httpx.RequestError as error:
        raise SourceUnreachable(
            f"{script} at {base_url} cannot be reached ({type(error).__name__})",
            next_step="check url in [source] and the network",
        ) from None
    except ValueError:
        raise SourceChanged(
            f"{script} at {base_url} answers {response.status_code} and no JSON",
            next_step="check url in [source]; or take the key from Kash.click: Configuration, Webservices",
        ) from None


def _post(base_url: str, script: str, form: dict[str, str]) -> dict[str, Any]:
    body = _answer(base_url, script, form)
    if not isinstance(body, dict) or body.get("success") is False or body.get("result") == "ERROR":
        told = body.get("message") or body.get("result") if isinstance(body, dict) else None
        raise SourceRefused(
            f"{script}: Kash.click refuses: {str(told or 'no reason given')[:200]!r}",
            next_step="check the e-mail address, and the password received; each works once",
        )
    return body


def _granted(body: dict[str, Any]) -> Credentials:
    key, shop_id = body.get("APIKEY"), body.get("SHOPID")
    if not (isinstance(key, str) and key and isinstance(shop_id, str | int)):
        raise SourceChanged(
            "Kash.click granted the login and sent no APIKEY and SHOPID",
            next_step="take them from Kash.click: Configuration, Webservices; then kash-pipeline kash login",
        )
    return Credentials(str(shop_id), key, "the login just made")
