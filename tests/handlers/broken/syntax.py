"""Is not Python."""

class Handler(
