"""`python -m crossfade` is the command line."""

from crossfade.cli.main import main

if __name__ == "__main__":
    main()
