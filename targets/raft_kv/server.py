"""Start a raft_kv node: ``python server.py --name n1 --port 7001 --data DIR --peer n2=127.0.0.1:7002 ...``.

Run by path, so that a node imports neither the harness nor site-packages and starts quickly.
"""

import importlib
import sys

if __name__ == "__main__":
    sys.exit(importlib.import_module("node.server").main(sys.argv[1:]))
