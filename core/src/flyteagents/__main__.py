"""`python -m flyteagents` is the command line too."""

from flyteagents._cli import main

if __name__ == "__main__":
    main()
