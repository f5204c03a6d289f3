"""Imported by sibling.py."""

ANSWER = "from the helper"
