"""Alembic revisions that build the schema of `crossfade.storage.tables`, run by `crossfade.storage.migrate`."""
