"""Where state is kept: the Parquet lake for facts, PostgreSQL for what must be transactional.

What is *in* the tables is decided elsewhere: facts by pos/, entries by accounting/, remote ids by pennylane/.
Nothing here knows Dagster, PennyLane or Kash.click.
"""
