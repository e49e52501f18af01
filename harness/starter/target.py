"""Your service as a target: how a node starts, when it is ready, how a client talks to it.

CHANGE, in this order: `command` (how a node starts), the client's `open`, `invoke` and `close` (your driver),
its `outcomes` (which exceptions mean "did not happen"), then `status` (who leads), if you have leaders.
"""

import http.client
import json
import sys
from pathlib import Path

from harness import Client, Endpoint, Failed, Node, Op, Target, Unknown


class ServiceClient(Client):
    # fail: it definitely did not happen. info: it may have, or may happen later.
    # An exception that is not listed fails the run: nobody has said what it means.
    outcomes = {  # noqa: RUF012
        ConnectionRefusedError: "fail",
        OSError: "info",
        http.client.HTTPException: "info",
    }

    def open(self, node: Endpoint) -> None:
        self.connection = http.client.HTTPConnection(node.host, node.port, timeout=0.9)

    def invoke(self, op: Op):
        request = {"f": op.f, "key": op.key, "value": op.value}
        if op.f == "cas":
            request["old"], request["value"] = op.value
        self.connection.request("POST", "/", json.dumps(request).encode())
        answer = json.loads(self.connection.getresponse().read())
        if "refused" in answer:
            raise Failed(answer["refused"])
        if "unknown" in answer:
            raise Unknown(answer["unknown"])
        return answer.get("value")

    def close(self) -> None:
        self.connection.close()


class Service(Target):
    client = ServiceClient

    def command(self, node: Node):
        # node.host and node.port are where it must listen; node.peers where *it* reaches the others
        peers = [f"--peer={peer.name}={peer.address}" for peer in node.peers]
        server = Path(__file__).with_name("server.py")
        return [
            sys.executable, str(server), "--name", node.name, "--host", node.host,
            "--port", str(node.port), "--data", str(node.data), *peers,
        ]  # fmt: skip

    def status(self, node: Endpoint):
        # Selectors such as "leader" ask this. Ask the node itself: one that is stopped must not answer.
        client = ServiceClient()
        client.open(node)
        try:
            return {"role": client.invoke(Op("role"))}
        except http.client.HTTPException as error:
            raise OSError(f"no whole answer: {error}") from error
        finally:
            client.close()
