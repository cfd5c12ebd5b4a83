"""`python -m spectramind`."""

from spectramind.cli.app import main

if __name__ == "__main__":
    main()
