"""Exit 0 once a Flower link or node serves, by its gRPC health check: ready.py HOST:PORT [SECONDS]."""

import sys
import time

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc


def is_serving(address: str) -> bool:
    """Ask once."""
    with grpc.insecure_channel(address) as channel:
        try:
            answer = health_pb2_grpc.HealthStub(channel).Check(health_pb2.HealthCheckRequest(), timeout=2)
        except grpc.RpcError:
            return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def main() -> int:
    """Ask until it serves or the time is over."""
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:18099"
    deadline = time.monotonic() + float(sys.argv[2] if len(sys.argv) > 2 else 0)
    while not is_serving(address):
        if time.monotonic() >= deadline:
            print(f"{address} does not serve", file=sys.stderr)
            return 1
        time.sleep(0.5)
    return 0


if __name__ == "__main__":
    sys.exit(main())
