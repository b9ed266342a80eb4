"""`python -m a2a_gateway`, and the console script `a2a-gateway`."""

from a2a_gateway.cli.app import app


def main() -> None:
    """Run the command line."""
    app(prog_name="a2a-gateway")


if __name__ == "__main__":
    main()
