"""The command line: one module per command.

Importing it imports typer and rich only, so that `--help` answers at once. Commands import what they need when they run. They
raise `GatewayError` or `CommandError`, and `app` prints either as one line with a remedy.
"""
