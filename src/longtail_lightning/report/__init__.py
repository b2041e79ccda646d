"""Tables and plots."""

__all__: list[str] = []
