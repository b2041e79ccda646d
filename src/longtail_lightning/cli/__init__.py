"""The command line, `ltl`."""
