"""Skewed clocks, asked against observed: see __main__.py."""
