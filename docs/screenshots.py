"""Pictures of the real UI for the README: `make ui` in one terminal, `make shots` in another.

Starts a backfill of a fiscal year through the UI's own API, waits for its end, and takes the pictures in docs/. Needs
Debian's chromium (`apt-get install chromium`); Playwright's own browsers are not downloaded.
"""

import argparse
import sys
import time
from pathlib import Path

import httpx
from playwright.sync_api import Page, sync_playwright

HERE = Path(__file__).parent
LAUNCH = """mutation($params: LaunchBackfillParams!) { launchPartitionBackfill(backfillParams: $params) {
  __typename ... on LaunchBackfillSuccess { backfillId } ... on PythonError { message } } }"""
STATUS = """query($id: String!) { partitionBackfillOrError(backfillId: $id) { ... on PartitionBackfill {
  status runs(limit: 50) { id status } } ... on PythonError { message } } }"""


def ask(url: str, query: str, **variables: object) -> dict[str, object]:
    answer = httpx.post(f"{url}/graphql", json={"query": query, "variables": variables}, timeout=60).json()
    if answer.get("errors"):
        sys.exit(f"{url}: {answer['errors'][0]['message']}")
    found: dict[str, object] = answer["data"]
    return found


def backfill(url: str, shop: str, first: str, last: str) -> tuple[str, list[str]]:
    """Launch the five daily assets for a range of days, as the backfill dialog does, and wait; its id and run ids."""
    assets = [
        *(["pos", name] for name in ("sales", "payments", "closings")),
        ["accounting", "entries"],
        ["pennylane", "published_entries"],
    ]
    days = httpx.post(
        f"{url}/graphql",
        json={
            "query": """query($key: AssetKeyInput!) { assetNodeOrError(assetKey: $key) {
              ... on AssetNode { partitionKeys } } }""",
            "variables": {"key": {"path": [shop, *assets[0]]}},
        },
        timeout=60,
    ).json()["data"]["assetNodeOrError"]["partitionKeys"]
    wanted = [day for day in days if first <= day <= last]
    told = ask(
        url,
        LAUNCH,
        params={"assetSelection": [{"path": [shop, *path]} for path in assets], "partitionNames": wanted, "tags": []},
    )["launchPartitionBackfill"]
    assert isinstance(told, dict)
    if told["__typename"] != "LaunchBackfillSuccess":
        sys.exit(f"the backfill was refused: {told}")
    while True:
        state = ask(url, STATUS, id=told["backfillId"])["partitionBackfillOrError"]
        assert isinstance(state, dict)
        if state["status"] not in ("REQUESTED", "CANCELING", "COMPLETING"):
            print(f"backfill {told['backfillId']} of {len(wanted)} days: {state['status']}, runs: {state['runs']}")
            return told["backfillId"], [run["id"] for run in state["runs"]]
        time.sleep(2)


def shoot(page: Page, url: str, name: str, *, wait_for: str, keys: str = "", settle_ms: int = 4000) -> None:
    page.goto(url)
    page.get_by_text(wait_for).first.wait_for(timeout=60_000)
    if keys:
        page.wait_for_timeout(2000)
        page.keyboard.press(keys)
    page.wait_for_timeout(settle_ms)  # the graph's layout animates and tells nobody when it is done
    page.screenshot(path=HERE / name)
    print(f"docs/{name}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default="http://127.0.0.1:3000")
    parser.add_argument("--shop", default="boulangerie")
    parser.add_argument("--from", dest="first", default="2026-01-01")
    parser.add_argument("--to", dest="last", default="2026-12-31")
    parser.add_argument("--day", default="2026-03-14", help="Day to show of published_entries.")
    options = parser.parse_args()
    url, shop = options.url, options.shop
    backfill_id, run_ids = backfill(url, shop, options.first, options.last)
    with sync_playwright() as player:
        browser = player.chromium.launch(
            executable_path="/usr/bin/chromium",
            args=["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 1600, "height": 1240})  # the graph is not made smaller than readable
        shoot(page, f"{url}/asset-groups", "asset-graph.png", wait_for="accounting", keys="Alt+KeyE")
        page.set_viewport_size({"width": 1600, "height": 1000})
        shoot(page, f"{url}/assets/{shop}/accounting/entries", "asset-entries.png", wait_for="entries")
        shoot(page, f"{url}/runs/b/{backfill_id}", "backfill-year.png", wait_for=backfill_id)
        for run_id in run_ids[:1]:
            # A year has thousands of events, which the page asks for in batches.
            shoot(page, f"{url}/runs/{run_id}", "backfill-run.png", wait_for=run_id[:8], settle_ms=20_000)
        shoot(
            page,
            f"{url}/assets/{shop}/pennylane/published_entries?view=partitions&partition={options.day}",
            "published-entries.png",
            wait_for=options.day,
        )
        browser.close()


if __name__ == "__main__":
    main()
