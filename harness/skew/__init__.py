"""Skewed clocks: what is written into running processes, and the program that writes it."""
