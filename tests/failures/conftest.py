from tests.cli.conftest import fit, ltl  # noqa: F401
