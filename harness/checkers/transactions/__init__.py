"""Transactions: which anomalies a history shows, and which models of consistency they rule out.

Elle's inference (Kingsbury & Alvaro, "Elle: Inferring Isolation Anomalies from Experimental Observations",
VLDB 2020): dependencies between transactions are inferred from what they read, anomalies are cycles of them.
"""

from harness.checkers.transactions.consistency import MODELS
from harness.checkers.transactions.judging import list_append, rw_register

__all__ = ["MODELS", "list_append", "rw_register"]
