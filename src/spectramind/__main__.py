"""`python -m spectramind`."""

from spectramind.cli import main

if __name__ == "__main__":
    main()
