"""Imports what is not installed."""

import no_such_package.part  # noqa: F401
