"""What a server counts, in the text form of Prometheus.

All is counted in the event loop. Values of labels are bounded: paths that the application has, or
`other`; statuses; a few reasons.
"""

from bisect import bisect_left
from collections import Counter
from itertools import accumulate

PREFIX = "bert4keras_lite"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """Requests, their durations, tokens that were generated, and connections that were cut."""

    def __init__(self):
        self.requests = Counter()  # of (path, status)
        self.durations = {}  # path -> numbers of requests in the buckets, the last one unbounded
        self.seconds = Counter()  # of path
        self.tokens = 0
        self.cut = Counter()  # of reasons

    def request(self, path, status, seconds):
        """Counts a request that is over."""
        self.requests[path, status] += 1
        buckets = self.durations.setdefault(path, [0] * (len(BUCKETS) + 1))
        buckets[bisect_left(BUCKETS, seconds)] += 1
        self.seconds[path] += seconds

    def text(self, **gauges):
        """All of it.

        Args:
            **gauges: name -> `(help, value)`: what is measured now.
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


def head(name, kind, text):
    yield f"# HELP {PREFIX}_{name} {text}"
    yield f"# TYPE {PREFIX}_{name} {kind}"


def line(name, value, **labels):
    inner = ",".join(f'{label}="{text}"' for label, text in labels.items())
    return f"{PREFIX}_{name}{{{inner}}} {value}" if inner else f"{PREFIX}_{name} {value}"
