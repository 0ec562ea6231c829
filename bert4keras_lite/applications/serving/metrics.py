"""Metrics of a server, in the text format of Prometheus.

They are updated in the event loop only. The values of labels are bounded: paths of the application
or `other`; statuses; a few reasons.
"""

from bisect import bisect_left
from collections import Counter
from itertools import accumulate

__all__ = ["CONTENT_TYPE", "Metrics"]

PREFIX = "bert4keras_lite"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Counts of requests, their durations, generated tokens, and aborted connections."""

    def __init__(self):
        self.requests = Counter()  # by (path, status)
        self.durations = {}  # path -> numbers of requests in each bucket, the last one unbounded
        self.seconds = Counter()  # by path
        self.tokens = 0
        self.cut = Counter()  # by reason

    def request(self, path, status, seconds):
        """Counts a completed request."""
        self.requests[path, status] += 1
        buckets = self.durations.setdefault(path, [0] * (len(BUCKETS) + 1))
        buckets[bisect_left(BUCKETS, seconds)] += 1
        self.seconds[path] += seconds

    def text(self, **gauges):
        """Returns all metrics as text.

        Args:
            **gauges: name -> `(help, value)`: current values.
        """
        return "".join(f"{line}\n" for line in self._lines(gauges))

    def _lines(self, gauges):
        yield from head("requests_total", "counter", "Requests by path and status.")
        for (path, status), count in sorted(self.requests.items()):
            yield line("requests_total", count, path=path, status=status)
        yield from head("request_seconds", "histogram", "Seconds from a request to its answer.")
        for path, counts in sorted(self.durations.items()):
            totals = list(accumulate(counts))
            for bound, total in zip((*BUCKETS, "+Inf"), totals, strict=True):
                yield line("request_seconds_bucket", total, path=path, le=bound)
            yield line("request_seconds_sum", round(self.seconds[path], 6), path=path)
            yield line("request_seconds_count", totals[-1], path=path)
        yield from head("generated_tokens_total", "counter", "Tokens that were generated.")
        yield line("generated_tokens_total", self.tokens)
        yield from head("connections_cut_total", "counter", "Connections cut by the server.")
        for reason, count in sorted(self.cut.items()):
            yield line("connections_cut_total", count, reason=reason)
        for name, (text, value) in gauges.items():
            yield from head(name, "gauge", text)
            yield line(name, value)


def head(name, metric_type, text):
    """Yields the two comment lines of a metric."""
    yield f"# HELP {PREFIX}_{name} {text}"
    yield f"# TYPE {PREFIX}_{name} {metric_type}"


def line(name, value, **labels):
    """Returns the line of a value."""
    inner = ",".join(f'{label}="{text}"' for label, text in labels.items())
    return f"{PREFIX}_{name}{{{inner}}} {value}" if inner else f"{PREFIX}_{name} {value}"
