"""Alembic's entry point: run the migrations on the connection of `migrations.upgrade`, in its transaction."""

from alembic import context

from a2a_gateway.stores.schema import metadata

context.configure(connection=context.config.attributes["connection"], target_metadata=metadata)
context.run_migrations()
