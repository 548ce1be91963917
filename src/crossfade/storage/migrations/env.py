"""What Alembic runs: the migrations, on the connection and inside the transaction that `migrate` opened."""

from __future__ import annotations

from alembic import context

from crossfade.storage.tables import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
with context.begin_transaction():
    context.run_migrations()
