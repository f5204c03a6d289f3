"""Imported by missing_name.py."""

undefined_name  # noqa: B018, F821
