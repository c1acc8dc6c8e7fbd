"""Files of a till under any fsspec URL, brought to where the readers can open them.

Only fetching belongs here. What the files hold is files.py, kash_accounting_csv.py and kash_fec.py.
"""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import fsspec

from kash_pipeline.pos.errors import PosError, SourceUnreachable


@contextmanager
def local_folder(url: str | None, path: Path) -> Iterator[Path]:
    """`path` where `url` is None, else a copy of the folder at the URL, for the time of the block.

    Raises SourceUnreachable when it cannot be read, PosError when no package knows such a URL.
    """
    if url is None:
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="kash-files-") as folder:
        for name, body in fetch(url):
            Path(folder, name).write_bytes(body)
        yield Path(folder)


def fetch(url: str) -> Iterator[tuple[str, bytes]]:
    """Name and content of the file at a path or URL, or of every file directly in the folder there, by name.

    Raises SourceUnreachable when there is nothing, PosError when no package knows such a URL.
    """
    shown = _without_query(url)
    try:
        filesystem, root = fsspec.core.url_to_fs(url, use_listings_cache=False)
        is_folder = filesystem.isdir(root)
        names = sorted(filesystem.find(root, maxdepth=1)) if is_folder else [root]
        if not names or not (is_folder or filesystem.exists(root)):
            raise FileNotFoundError(root)
        for name in names:
            yield str(name).rsplit("/", 1)[-1], filesystem.cat_file(name)
    except (ImportError, ValueError) as error:
        raise PosError(
            f"{shown} cannot be opened: {error}",
            next_step="install the package that fsspec names, or correct path in [source]",
        ) from None
    except OSError as error:
        raise SourceUnreachable(
            f"{shown}: nothing to read ({error.strerror or type(error).__name__})",
            next_step="check path in [source] and the rights of this machine",
        ) from None
    except Exception as error:  # noqa: BLE001 every store has errors of its own
        # Such as a damaged or locked archive, a bucket that says no.
        raise SourceUnreachable(
            f"{shown} cannot be read ({type(error).__name__})",
            next_step="open it with another program; check path in [source] and what the store asks for",
        ) from None


def _without_query(url: str) -> str:
    """A URL for messages: what stands before an @ or after a ? may be a secret."""
    head, _, rest = url.partition("://")
    return f"{head}://{rest.rsplit('@', 1)[-1].partition('?')[0]}" if rest else url
