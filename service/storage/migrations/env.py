"""Run by alembic: migrations on the connection that `Database.upgrade` opened, inside its transaction."""

from __future__ import annotations

from alembic import context

from service.storage.models import Base

# transactional_ddl: true of SQLite too, when transactions are begun by hand as in `Database`
context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata, transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
