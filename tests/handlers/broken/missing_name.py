"""Fails while it is imported."""

import broken_helper  # noqa: F401
