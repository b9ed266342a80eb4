"""The command line: one module a command, over what the layers below offer.

Importing it imports typer and rich only, so that `--help` answers at once: commands import what they need when they run. Commands
raise `GatewayError` or `CommandError`; `app` turns either into one line that says what to do.
"""
