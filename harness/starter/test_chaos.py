"""Run me: pytest -m chaos

CHANGE: the workload, if your service is no register (set_workload, rmw_workload, or your own), and the
promise that is asserted.
"""

import pytest
from target import Service

from harness import assert_linearizable, register_workload


@pytest.mark.chaos(target=Service(nodes=3))
def test_register_survives(chaos, plan):
    history = chaos.run(register_workload(keys=3, clients=6, total_rate=100), plan)
    assert_linearizable(history, model="cas-register")
