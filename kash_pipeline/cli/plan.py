"""`kash-pipeline plan` and `apply`: what would be posted, against what PennyLane holds; and exactly that, done.

Only showing and keeping a plan belongs here; comparing is pennylane/planning.py's, posting pennylane/publisher.py's.
"""

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from kash_pipeline.cli.console import console
from kash_pipeline.cli.opening import opened, shop_option
from kash_pipeline.cli.options import Day, ordered
from kash_pipeline.errors import KashPipelineError
from kash_pipeline.pennylane import connect
from kash_pipeline.pennylane.planning import ACTIONS, Plan, euros_text, make_plan
from kash_pipeline.pennylane.publisher import Publisher
from kash_pipeline.settings import Environment, ShopFile
from kash_pipeline.warehouse.lake import Lake


@dataclass(frozen=True)
class Kept:
    """A plan as it was shown: a fingerprint of what should become of each entry."""

    shop: str
    first: str
    last: str
    steps: dict[str, str]


class PlanOutdated(KashPipelineError):
    """What `apply` was to do is not what there is to do any more."""


@click.command()
@shop_option
@click.option("--from", "first", type=Day(), required=True, help="First business day.")
@click.option("--to", "last", type=Day(), required=True, help="Last business day.")
@click.option("--entries", "show_entries", is_flag=True, help="List every entry that is not simply left as it is.")
def plan(shop_path: Path | None, first: date, last: date, show_entries: bool) -> None:
    """What would be posted for some days, against what PennyLane really holds. Changes nothing.

    Exit code 0; `kash-pipeline apply ID` then does exactly this.
    """
    ordered(first, last)
    with opened(shop_path) as (shop, engine, env), connect(shop, engine, env) as client:
        made = make_plan(client, engine, shop, Lake(env.lake_url, shop.shop.id), first, last)
    out = console()
    show(out, made, entries=show_entries)
    if made.changes_nothing:
        out.print("nothing to post")
        return
    keep(env, made)
    out.print(f"to do exactly this: kash-pipeline apply {made.id} --shop {shop.path}", soft_wrap=True)


@click.command()
@click.argument("plan_id")
@shop_option
def apply(plan_id: str, shop_path: Path | None) -> None:
    """Do exactly what `plan` showed, or nothing when the books or PennyLane changed meanwhile.

    Exit code 0 when all of it is posted and read back, 2 when something was refused or waits.
    """
    out = console()
    with opened(shop_path) as (shop, engine, env), connect(shop, engine, env) as client:
        kept = recall(env, shop, plan_id)
        first, last = date.fromisoformat(kept.first), date.fromisoformat(kept.last)
        lake = Lake(env.lake_url, shop.shop.id)
        made = make_plan(client, engine, shop, lake, first, last)
        if made.id != plan_id:
            now = _fingerprints(made)
            changed = sorted(key for key in now.keys() | kept.steps.keys() if now.get(key) != kept.steps.get(key))
            raise PlanOutdated(
                f"plan {plan_id} is out of date: {', '.join(changed[:5]) or 'the company'} changed meanwhile",
                next_step=f"look again: kash-pipeline plan --from {first} --to {last} --shop {shop.path}",
            )
        customers = lake.read_reference("customers") if lake.has_reference("customers") else None
        publisher = Publisher(client, engine, shop, customers=customers, lake=lake)
        report = publisher.publish(first, last, only=made.keys())
    out.print(
        f"posted {report.posted}, taken over {report.adopted}, read back and equal {report.verified}, "
        f"corrected {report.corrected}"
    )
    for problem in report.corrections:
        out.print(f"  {problem.business_day} {problem.key}: {problem.why}", markup=False, soft_wrap=True)
    for problem in report.problems:
        out.print(f"  {problem.business_day} {problem.key}: {problem.why}", markup=False, soft_wrap=True)
    if report.problems:
        raise SystemExit(2)


def show(out: Console, made: Plan, *, entries: bool = False) -> None:
    """Print the table of days, and with `entries` what becomes of each entry that is not left."""
    head, rows = made.table()
    table = Table(title=f"{made.company}: {made.first} to {made.last}")
    for place, name in enumerate(head):
        table.add_column(name, justify="right" if place else "left")
    for row in rows:
        table.add_row(*row)
    out.print(table)
    for step in made.steps if entries else ():
        if step.action != "leave":
            amount = euros_text(step.amount_cents)
            out.print(f"{step.key}  {ACTIONS[step.action]}  {amount}  {step.why}", markup=False, soft_wrap=True)


def keep(env: Environment, made: Plan) -> None:
    """Write the plan under `<home>/plans`, so that `apply` can say what changed since."""
    folder = env.home / "plans"
    folder.mkdir(parents=True, exist_ok=True)
    kept = Kept(made.shop_id, made.first.isoformat(), made.last.isoformat(), _fingerprints(made))
    (folder / f"{made.id}.json").write_text(json.dumps(asdict(kept)))


def _fingerprints(made: Plan) -> dict[str, str]:
    # Hashed: `why` shows what persons typed in PennyLane, and the file lies about in clear.
    texts = {step.key: f"{step.action} {step.digest} {step.why}" for step in made.steps}
    return {key: hashlib.sha256(text.encode()).hexdigest()[:16] for key, text in texts.items()}


def recall(env: Environment, shop: ShopFile, plan_id: str) -> Kept:
    """A plan kept before. Raises PlanOutdated when there is none of this id and shop."""
    file = env.home / "plans" / f"{plan_id}.json"
    kept = Kept(**json.loads(file.read_text())) if plan_id.isalnum() and file.is_file() else None
    if kept is None or kept.shop != shop.shop.id:
        raise PlanOutdated(
            f"there is no plan {plan_id} for {shop.shop.id}",
            next_step=f"make one: kash-pipeline plan --from DAY --to DAY --shop {shop.path}",
        )
    return kept
