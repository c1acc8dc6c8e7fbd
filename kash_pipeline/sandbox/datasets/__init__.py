"""Data sets the Kash.click sandbox can serve, as facts.

`load` finds the right reader by name or by the columns of a file. What each set is, where it comes from, and what of it
is derived from the seed stands in README.md of this folder.
"""

import csv
import gzip
from collections.abc import Callable
from pathlib import Path

from kash_pipeline.sandbox.datasets import bakery, online_retail, pizzaplace
from kash_pipeline.sandbox.datasets.dataset import EXCLUDED_COLUMNS, Dataset
from kash_pipeline.sandbox.datasets.errors import DatasetError

__all__ = ["DEFAULT_SEED", "EXCLUDED_COLUMNS", "Dataset", "DatasetError", "load"]

DEFAULT_SEED = 20_260_301

_BY_COLUMNS: dict[tuple[str, ...], Callable[[Path, int], Dataset]] = {
    online_retail.COLUMNS: online_retail.load,
    pizzaplace.COLUMNS: pizzaplace.load,
}


def load(name_or_path: str | Path, *, seed: int = DEFAULT_SEED) -> Dataset:
    """`"bakery"`, or the path of online_retail.csv.gz or pizzaplace.csv.gz (known by their columns, gzip or plain).

    Raises DatasetError when there is no such set or file, or when the file is not one of those known.
    """
    if str(name_or_path) == "bakery":
        return bakery.load(seed)
    path = Path(name_or_path)
    columns = _header(path)
    reader = _BY_COLUMNS.get(columns)
    if reader is None:
        raise DatasetError(
            f"{path}: unknown data set, its columns are {', '.join(columns)[:200]}",
            next_step=f"known columns: {' or '.join(','.join(known) for known in _BY_COLUMNS)}; or use bakery",
        )
    return reader(path, seed)


def _header(path: Path) -> tuple[str, ...]:
    try:
        with path.open("rb") as raw:
            zipped = raw.read(2) == b"\x1f\x8b"
        with gzip.open(path, "rt", encoding="utf-8-sig") if zipped else path.open(encoding="utf-8-sig") as text:
            return tuple(next(csv.reader([text.readline(10_000)]), []))
    except FileNotFoundError:
        raise DatasetError(
            f"{path}: there is no such data set or file", next_step="use bakery, or the path of a known file"
        ) from None
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read ({error})", next_step="fetch the file again") from None
