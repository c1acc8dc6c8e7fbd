"""Kash.click read over its HTTP calls: the `kash_api` adapter of the source port.

Asking (allow-list, retries, redaction of the key, raw answers) is client.py; where a business day begins is days.py;
what the answers are believed to look like is mapping.py, UNCONFIRMED; the port's methods are source.py.
"""

from kash_pipeline.pos.kash_api.client import KashClient
from kash_pipeline.pos.kash_api.source import KashApiSource

__all__ = ["KashApiSource", "KashClient"]
