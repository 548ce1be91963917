"""What all tables belong to."""

from __future__ import annotations

from sqlalchemy import BigInteger, Integer, MetaData

metadata = MetaData()

row_id = BigInteger().with_variant(Integer, "sqlite")  # SQLite gives row ids to INTEGER primary keys only
