"""Comparisons: several graphs on one question, shared stages run once, as a table and an HTML page."""
