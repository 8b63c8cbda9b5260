"""`python -m vjepa_mlflow`: the command line, also where the package is not installed."""

from vjepa_mlflow.cli import main

if __name__ == "__main__":
    main()
