"""Alembic's entry: runs the migrations on the connection, and in the transaction, that `migrations.upgrade` was given."""

from alembic import context

from a2a_gateway.stores.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
