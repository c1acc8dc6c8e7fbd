"""How far long work is: bars on a terminal, lines in a log; and what stopped it.

Only their form belongs here; what is counted is told by the work itself.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

if TYPE_CHECKING:
    from kash_pipeline.defs.runs import DaysResult, RunProgress


@contextmanager
def run_progress(console: Console) -> "Iterator[RunProgress]":
    """Bars on a terminal; elsewhere one line per asset when it is done."""
    if console.is_terminal:
        with Progress(
            TextColumn("{task.description:<34}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        ) as bars:
            tasks: dict[str, int] = {}

            def show(stage: str, asset: str, done: int, asked: int) -> None:
                name = f"{stage}: {asset}"
                if name not in tasks:
                    tasks[name] = bars.add_task(name, total=asked)
                bars.update(tasks[name], completed=done, total=asked)  # type: ignore[arg-type]

            yield show
        return

    def tell(stage: str, asset: str, done: int, asked: int) -> None:
        if done == asked:
            console.print(f"  {stage}: {asset}: {done} of {asked}")

    yield tell


def say_problems(result: "DaysResult", days: str = "") -> None:
    """Why steps of these runs failed and what to do, on standard error; `days` says which days where runs are many."""
    for stage in result.stages:
        for problem in stage.problems:
            words = [days, f"{stage.stage} ({problem.step})" if problem.step else stage.stage, problem.message]
            click.echo(f"kash-pipeline: {': '.join(word for word in words if word)}", err=True)
            click.echo(f"  next step: {problem.next_step}", err=True)
