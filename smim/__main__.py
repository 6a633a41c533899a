"""`python -m smim` is `smim`, for environments whose scripts are not on the path."""

from smim.cli import main

if __name__ == "__main__":
    main()
