"""What the service did, in the text format of Prometheus."""

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

__all__ = ["Counters"]

_BOUNDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Upper ends of the latencies that are counted together, in seconds."""


class Counters:
    """Counts requests by route and status, and their latencies."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._within: Counter[float] = Counter()
        self._seconds = 0.0

    def count(self, scope: Mapping[str, Any], status: int, seconds: float) -> None:
        """Count a request that was answered.

        Args:
            scope: of ASGI; its route names the request, since paths are the client's.
            status: of the answer.
            seconds: that it took.
        """
        route = getattr(scope.get("route"), "path", "other")
        with self._lock:
            self._requests[route, status] += 1
            self._seconds += seconds
            for bound in _BOUNDS:
                self._within[bound] += seconds <= bound

    def text(self, **others: tuple[str, str, float]) -> str:
        """All counts.

        Args:
            others: further values: by name their kind, "counter" or "gauge", meaning and value.
        """
        with self._lock:
            total = sum(self._requests.values())
            lines = _head("requests_total", "counter", "Requests that were answered.")
            lines += [
                f'pointpeft_requests_total{{route="{route}",status="{status}"}} {count}'
                for (route, status), count in sorted(self._requests.items())
            ]
            name = "request_seconds"
            lines += _head(name, "histogram", "Seconds from the head of a request to its answer.")
            lines += [
                f'pointpeft_{name}_bucket{{le="{bound:g}"}} {self._within[bound]}'
                for bound in _BOUNDS
            ]
            lines += [
                f'pointpeft_{name}_bucket{{le="+Inf"}} {total}',
                f"pointpeft_{name}_sum {self._seconds:.6f}",
                f"pointpeft_{name}_count {total}",
            ]
        for name, (kind, meaning, value) in others.items():
            lines += [*_head(name, kind, meaning), f"pointpeft_{name} {value:g}"]
        return "\n".join(lines) + "\n"


def _head(name: str, kind: str, meaning: str) -> list[str]:
    return [f"# HELP pointpeft_{name} {meaning}", f"# TYPE pointpeft_{name} {kind}"]
