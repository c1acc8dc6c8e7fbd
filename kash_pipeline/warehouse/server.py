"""Which PostgreSQL holds the warehouse: the one named by KASH_DATABASE_URL, or the embedded one.

Only the choice and its URL belong here. Starting, repairing and stopping the embedded server is in embedded.py,
engines and migrations are in database.py.
"""

from kash_pipeline.settings import Environment


def database_url(env: Environment) -> str:
    """A `postgresql://` URL of a server that answers.

    Without KASH_DATABASE_URL the embedded server under `<home>/pg` is started, or joined when another process runs
    it already; it stops when the last process using it ends. Any number of processes and threads may call this at
    once and as often as they like; a call is also what revives an embedded server that was killed.

    Raises ServerError when the embedded server cannot be started.
    """
    if env.database_url:
        return env.database_url
    # The server's wheel costs 0.1 s to import: only for those who need it.
    from kash_pipeline.warehouse import embedded

    return embedded.url_of(env.home / "pg")
