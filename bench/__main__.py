"""`make bench`: every benchmark of this folder in one run, printed as one table of ratios.

A benchmark module offers `rows() -> list[dict]` with the keys benchmark, ours, anchor, ratio and target. Ours and the
anchor are taken in one interleaved run on one machine, so only the ratio means something elsewhere.
"""

import argparse
import importlib
import sys

from rich.console import Console
from rich.table import Table

MODULES = ("engine", "backfill", "loading", "publishing", "extraction")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("only", nargs="*", choices=[*MODULES, []], help="run only these")
    chosen = parser.parse_args().only or MODULES
    console = Console()
    table = Table(title="kash_pipeline benchmarks")
    for name in ("benchmark", "ours", "anchor", "ratio", "target"):
        table.add_column(name, justify="left" if name == "benchmark" else "right")
    for module in chosen:
        console.print(f"running {module} ...", style="dim")
        for row in importlib.import_module(f"bench.{module}").rows():
            table.add_row(*(str(row.get(name, "")) for name in ("benchmark", "ours", "anchor", "ratio", "target")))
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
