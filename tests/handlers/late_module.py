"""Imported by sibling.py at its first call."""

ANSWER = "and late"
