"""Puts a real server under load, with clients that are good, bad, slow or gone.

    python tests/load.py                             # 2,000 requests of 50 clients: two minutes
    python tests/load.py --requests 60 --clients 10  # a few seconds
    python tests/load.py --large-answer              # the attention of 24 x 24 heads alone

Serves a tiny model in a process of its own, on loopback; KERAS_BACKEND says on what. A tenth of the
requests comes from clients that send nonsense, too much, too slowly, half of it, or leave.

| part | what must hold |
|---|---|
| load | every good request is answered, as it was alone; every other one gets the status that is promised, slow ones within twice the deadline; nobody waits afterwards; memory (RSS) is within 5 % of what it was after a quarter (from 1,000 requests on); no file descriptor is left open |
| descriptors | the server runs out of file descriptors, and answers again when there are some |
| SIGTERM | texts that are being generated are sent to their end, and nothing new is taken |
| log | a line for each request, without texts; no traceback, no complaint of asyncio |
| large answer | 9.1 million numbers are answered; `/health` answers meanwhile, within a second |

Prints a table. The exit status is 1 if something did not hold.
"""

import argparse
import asyncio
import contextlib
import json
import os
import random
import re
import resource
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import httpx

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

VOCABULARY = ROOT / "tests/goldens/bert/hf_tiny_safetensors/vocab.txt"
SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 64,
    "max_position": 160,
    "initializer_range": 0.5,
}
LARGE = {  # a model whose attention is as much as an answer may have to hold
    "hidden_size": 48,
    "num_hidden_layers": 24,
    "num_attention_heads": 24,
}
LARGE_LIMITS = {"numbers": 10_000_000}
LARGE_TEXT = 126  # characters: 128 tokens with those at both ends
LIMITS = {"header_seconds": 2, "body_seconds": 2, "read_seconds": 10, "idle_seconds": 60}
CHARACTERS = "人不是天地大小"
CLOSE = 1.5e-4  # of numbers with four digits, of which the last one may have been rounded otherwise
MEMORY = 1.05
TIMEOUT = 120  # seconds of a request; only against hanging


class Table:
    """What came out, what did not hold, and a line that says how far it is."""

    def __init__(self):
        self.rows, self.violations = {}, []

    def row(self, name, value):
        self.rows[name] = value

    def expect(self, holds, what):
        if not holds:
            self.violations.append(what)
            print(f"\nVIOLATED: {what}"[:400], file=sys.stderr, flush=True)

    def progress(self, text):
        end = "" if sys.stderr.isatty() else "\n"
        print(f"\r{text[:100]}\033[K" if not end else text, end=end, file=sys.stderr, flush=True)

    def show(self):
        print(file=sys.stderr)
        print("| | |\n|---|---|")
        for name, value in self.rows.items():
            print(f"| {name} | {value} |")
        counts = Counter(re.sub(r"\d+", "N", violation)[:80] for violation in self.violations)
        for violation, count in counts.items():
            print(f"VIOLATED, {count} times: {violation}")
        return bool(self.violations)


def write_model(directory, shape):
    """A small model with random weights, which masks, generates and gives vectors (UniLM)."""
    import keras

    from bert4keras_lite import Tokenizer, build_transformer_model

    keras.utils.set_random_seed(0)
    tokenizer = Tokenizer(VOCABULARY)
    transformer = build_transformer_model(
        **shape,
        vocab_size=tokenizer.vocab_size,
        with_mlm=True,
        return_keras_model=False,
    )
    transformer.save_checkpoint(directory, format="tf", vocab=tokenizer)


class ServerProcess:
    """`serve` in a process of its own."""

    def __init__(self, folder, shape, limits):
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            self.port = place.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        self.log = folder / "log.txt"
        write_model(folder / "model", shape)
        command = [sys.executable, "-W", "ignore", "-m", "bert4keras_lite", "serve", "model"]
        command += ["--port", str(self.port), "--set", "application=unilm"]
        command += [f"--limit={name}={value}" for name, value in limits.items()]
        # threads cost such a small model more than they bring
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TF_NUM_INTRAOP_THREADS": "1"}
        environment |= {"TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONPATH": str(ROOT)}
        with open(self.log, "w") as log:
            self.process = subprocess.Popen(
                command, stdout=subprocess.DEVNULL, stderr=log, cwd=folder, env=environment
            )

    def wait_until_ready(self):
        for _ in range(1200):
            with contextlib.suppress(httpx.HTTPError):
                health = httpx.get(f"{self.address}/health").json()
                if not health["waiting"] + health["running"]:  # what it tries at the start is done
                    self.begin = len(self.log.read_text())  # before it speaks the backend
                    return
            if self.process.poll() is not None:
                break
            time.sleep(0.1)
        raise SystemExit(f"the server did not start:\n{self.log.read_text()[-2000:]}")

    def memory(self, name="VmRSS"):
        """MiB that are resident; `VmHWM`: that were at most."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(rf"{name}:\s+(\d+)", status)[1]) / 1024

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))


@contextlib.contextmanager
def running_server(shape, limits):
    """A `ServerProcess` that is ready, and is killed at the end."""
    with tempfile.TemporaryDirectory() as folder:
        server = ServerProcess(Path(folder), shape, limits)
        try:
            server.wait_until_ready()
            yield server
        finally:
            server.process.kill()
            server.process.wait()


# Good requests


def good_requests(rng):
    """`(path, body)`, whose answers depend on nothing else."""
    found = []
    for i in range(40):
        texts = ["".join(rng.choices(CHARACTERS, k=rng.randint(1, 30))) for _ in range(1 + i % 3)]
        found += [
            ("/v1/vectors", {"texts": texts, "pooling": ("mean", "cls")[i % 2]}),
            ("/v1/similarity", {"texts": texts}),
            ("/v1/attention", {"text": texts[0], "layers": [i % 2]}),
        ]
        sampling = {"sample": True, "temperature": 2.0, "seed": i} if i % 2 else {}
        body = {"text": texts[0][:8], "max_new_tokens": 1 + i % 8, "stream": i % 4 > 1, **sampling}
        found.append(("/v1/generate", body))
    return found


def contents(response):
    """What an answer holds, with numbers to four digits."""
    if response.headers["content-type"].startswith("text/event-stream"):
        lines = [line for line in response.text.split("\n") if line.startswith("data: ")]
        *pieces, end = [json.loads(line[6:]) for line in lines]
        return rounded(end | {"text": "".join(piece["text"] for piece in pieces)})
    return rounded(response.json())


def rounded(value):
    if isinstance(value, dict):
        return {name: rounded(x) for name, x in value.items()}
    if isinstance(value, list):
        return [rounded(x) for x in value]
    return round(value, 4) if isinstance(value, float) else value


def same(value, other):
    if isinstance(value, dict):
        return value.keys() == other.keys() and all(same(value[k], other[k]) for k in value)
    if isinstance(value, list):
        return len(value) == len(other) and all(map(same, value, other))
    return abs(value - other) <= CLOSE if isinstance(value, float) else value == other


# Other clients: each is a coroutine `(port, body) -> what it got`, with what it has to get


async def send(port, *parts, wait=0.0, closes=False, finish=False):
    """Sends parts with a wait after each one, and gives all that comes back.

    Args:
        closes: whether to leave after the last part.
        finish: whether to close the side that writes.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    answer = asyncio.ensure_future(read_all(reader))
    try:
        for part in parts:
            if answer.done():
                break
            writer.write(part)
            if wait:
                await asyncio.wait([answer], timeout=wait)
        if closes:
            return b"left"
        if finish:
            writer.write_eof()
        return await answer
    finally:
        answer.cancel()
        writer.close()


async def read_all(reader):
    parts = []
    with contextlib.suppress(ConnectionError):
        while part := await reader.read(1 << 16):
            parts.append(part)
    return b"".join(parts)


def whole(path, body, host="localhost"):
    content = json.dumps(body).encode() if isinstance(body, dict) else body
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\n"
    return f"{head}Connection: close\r\nContent-Length: {len(content)}\r\n\r\n".encode(), content


def bytewise(data, count=1000):
    return [data[i : i + 1] or b" " for i in range(count)]


async def nonsense(port, path, body):
    return await send(port, b"\x16\x03\x01 nonsense\r\n\r\n")


async def wrong_field(port, path, body):
    return await send(port, *whole(path, {**body, "wrong": 1}))


async def too_large(port, path, body):
    return await send(port, *whole(path, b"[" * (2 << 20)))


async def foreign_host(port, path, body):
    return await send(port, *whole(path, body, host="evil.example.com"))


async def slow_header(port, path, body):
    return await send(port, *bytewise(whole(path, body)[0]), wait=0.2)


async def slow_body(port, path, body):
    head, _ = whole(path, b" " * 1000)
    return await send(port, head, *bytewise(b""), wait=0.2)


async def leaves(port, path, body):
    return await send(port, *whole(path, body), closes=True)


async def leaves_within(port, path, body):
    head, content = whole(path, body)
    return await send(port, head, content[:5], wait=0.05, closes=True)


async def half_closed(port, path, body):
    return await send(port, *whole(path, body), finish=True)


OTHERS = {
    nonsense: b"400",
    wrong_field: b"422",
    too_large: b"413",
    foreign_host: b"421",
    slow_header: b"408",
    slow_body: b"408",
    half_closed: b"200",
    leaves: None,
    leaves_within: None,
}
SLOW = (slow_header, slow_body)


# The parts


async def ask(client, path, body):
    """The response, and how often the server was busy before."""
    busy = 0
    while (response := await client.post(path, json=body)).status_code == 503 and busy < 100:
        busy += 1
        await asyncio.sleep(float(response.headers["Retry-After"]))
    return response, busy


async def put_under_load(server, table, requests, clients, rng):
    good = good_requests(rng)
    async with httpx.AsyncClient(base_url=server.address, timeout=TIMEOUT) as client:
        expected = []
        for i, (path, body) in enumerate(good):
            response, _ = await ask(client, path, body)
            table.expect(response.status_code == 200, f"alone: {response.status_code} {path}")
            expected.append(contents(response))
            if i % 40 == 39:
                table.progress(f"alone: {i + 1}/{len(good)}")
        for _ in range(3):  # batches of all sizes: what they have compiled is no leak
            await asyncio.gather(*(ask(client, path, body) for path, body in good))
    kinds = list(OTHERS)
    todo = [kinds[i // 10 % len(kinds)] if i % 10 == 0 else None for i in range(requests)]
    rng.shuffle(todo)
    counts, seconds, memory, done = Counter(), [], [], 0

    async def one(client, kind):
        number = rng.randrange(len(good))
        path, body = good[number]
        begin = time.perf_counter()
        if kind is None:
            try:
                response, busy = await ask(client, path, body)
                right = response.status_code == 200 and same(contents(response), expected[number])
                outcome = "right" if right else f"WRONG: {response.status_code} {path}"
                counts["busy"] += busy
            except httpx.HTTPError as error:
                outcome = f"LOST: {type(error).__name__} {path}"
            seconds.append(time.perf_counter() - begin)
            counts[outcome] += 1
            table.expect(outcome == "right", outcome)
            return
        status = OTHERS[kind]
        try:
            answer = await asyncio.wait_for(kind(server.port, path, body), TIMEOUT)
        except asyncio.TimeoutError:
            answer = b"nothing, and the connection is still open"
        finals = re.findall(rb"HTTP/1\.1 ([2-5]\d\d) ", answer)
        table.expect(status is None or finals == [status], f"{kind.__name__}: {answer[:200]}")
        if kind in SLOW:
            took = time.perf_counter() - begin
            limit = 2 * LIMITS["body_seconds"]
            counts["slowest"] = max(counts["slowest"], took)
            table.expect(took < limit, f"{kind.__name__}: open for {took:.1f} s, of {limit} s")
        counts[f"{kind.__name__.replace('_', ' ')}: {(status or b'-').decode()}"] += 1

    async def work(client):
        nonlocal done
        while todo:
            await one(client, todo.pop())
            done += 1
            if done % 100 == 0:
                table.progress(f"load: {done}/{requests}, {server.memory():.0f} MiB")
            if done >= requests // 4 and not memory:
                memory.append(server.memory())

    pool = httpx.Limits(max_connections=clients, max_keepalive_connections=clients)
    async with httpx.AsyncClient(base_url=server.address, limits=pool, timeout=TIMEOUT) as client:
        begin = time.perf_counter()
        await asyncio.wait_for(asyncio.gather(*(work(client) for _ in range(clients))), 3600)
        took = time.perf_counter() - begin
        memory.append(server.memory())
    seconds.sort()
    table.row("good requests", f"{len(seconds)}, {counts.pop('right', 0)} answered as alone")
    table.row("503, asked again", counts.pop("busy", 0))
    table.row("requests a second", f"{requests / took:.0f}")
    median, late = (seconds[int(share * len(seconds))] for share in (0.5, 0.99))
    table.row("seconds of a good request, median and 99 %", f"{median:.2f}, {late:.2f}")
    slowest = counts.pop("slowest", 0)
    table.row("slow clients were sent away after at most", f"{slowest:.1f} s, deadline 2 s")
    others = ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))
    table.row("other clients: what they got", others)
    growth = memory[-1] / memory[0]
    table.row("MiB after a quarter, at the end", f"{memory[0]:.0f}, {memory[-1]:.0f}")
    if requests >= 1000:
        table.expect(growth < MEMORY, f"memory grew by {growth - 1:.1%}")
    health = {}
    for _ in range(300):
        health = httpx.get(f"{server.address}/health").json()
        if not health["waiting"] + health["running"]:
            break
        await asyncio.sleep(0.1)
    table.expect(not health["waiting"] + health["running"], f"nobody is there, but {health}")
    figures = httpx.get(f"{server.address}/metrics").text
    answered = sum(map(int, re.findall(r"^\w+_requests_total\{.*\} (\d+)$", figures, re.M)))
    table.row("requests by /metrics", answered)


async def exhaust_descriptors(server, table):
    """More connections than the process may have files, then none."""
    limit = server.descriptors() + 20
    _, most = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (limit, most))
    connections = [await asyncio.open_connection("127.0.0.1", server.port) for _ in range(100)]
    for _ in range(50):
        if "no connection is accepted" in server.log.read_text():
            break
        await asyncio.sleep(0.1)
    table.expect("no connection is accepted" in server.log.read_text(), "descriptors: enough")
    for _, writer in connections:
        writer.close()
    begin = time.perf_counter()
    async with httpx.AsyncClient(base_url=server.address, timeout=30) as client:
        answers = [await ask(client, "/v1/vectors", {"texts": ["天地"]}) for _ in range(5)]
    took = time.perf_counter() - begin
    right = all(response.status_code == 200 for response, _ in answers)
    table.expect(right, "descriptors: no answer afterwards")
    told = server.log.read_text().count("no connection is accepted")
    table.row("descriptors ran out, lines in the log", told)
    table.row("answers again after", f"{took:.1f} s")
    table.expect(told < 30, f"descriptors: {told} lines in the log")
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (most, most))


async def drain(server, table, clients):
    """SIGTERM while texts are generated."""
    body = {"text": "天地", "max_new_tokens": 100, "stream": True}
    begun, told = asyncio.Semaphore(0), asyncio.Event()

    async def follow(client):
        text = ""
        async with client.stream("POST", "/v1/generate", json=body) as response:
            async for line in response.aiter_lines():
                if not text:
                    begun.release()
                    await told.wait()
                text += line
        return '"reason"' in text

    async with httpx.AsyncClient(base_url=server.address, timeout=TIMEOUT) as client:
        texts = [asyncio.ensure_future(follow(client)) for _ in range(clients)]
        for _ in texts:
            await begun.acquire()
        begin = time.perf_counter()
        server.process.send_signal(signal.SIGTERM)
        told.set()
        ends = await asyncio.gather(*texts, return_exceptions=True)
    status = await asyncio.to_thread(server.process.wait, TIMEOUT)
    table.expect(all(end is True for end in ends), f"SIGTERM: texts were cut: {ends}")
    table.expect(status in (0, -signal.SIGTERM), f"SIGTERM: status {status}")
    table.row("texts sent to their end after SIGTERM", f"{ends.count(True)} of {clients}")
    table.row("seconds from SIGTERM to the end", f"{time.perf_counter() - begin:.1f}")


async def ask_much(server, table):
    """The largest answer, while others ask how the server is."""
    body = {"text": (CHARACTERS * LARGE_TEXT)[:LARGE_TEXT]}
    async with httpx.AsyncClient(base_url=server.address, timeout=TIMEOUT) as client:
        await ask(client, "/v1/attention", {**body, "layers": [0]})  # compiles
        before, begin = server.memory(), time.perf_counter()
        much = asyncio.ensure_future(ask(client, "/v1/attention", body))
        waits = []
        while not much.done():
            since = time.perf_counter()
            response = await client.get("/health")
            waits.append(time.perf_counter() - since)
            table.expect(response.status_code == 200, f"health: {response.status_code}")
            await asyncio.sleep(0.02)
        took = time.perf_counter() - begin
    response, _ = much.result()
    table.expect(response.status_code == 200, f"large answer: {response.text[:200]}")
    numbers = response.text.count(",")
    table.expect(numbers > 9_000_000, f"large answer: {numbers} numbers")
    table.expect(max(waits) < 1, f"health: {max(waits):.2f} s")
    table.row("numbers, MiB of the answer", f"{numbers:,}, {len(response.content) / 2**20:.0f}")
    table.row("seconds", f"{took:.1f}")
    table.row("MiB that the server took for it at most", f"{server.memory('VmHWM') - before:.0f}")
    worst = f"{len(waits)}, {max(waits):.2f}"
    table.row("`/health` asked meanwhile, seconds at most", worst)


def judge_log(server, table):
    text = server.log.read_text()[server.begin :]
    for words in ("Traceback", "never retrieved", "Exception", *CHARACTERS):
        table.expect(words not in text, f"log: {words}")
    lines = re.findall(r"^\S+ \S+ 127\.0\.0\.1 [\w-]+ \S+ \d+ \d+\.\d{3} s \S+$", text, re.M)
    rest = set(text.splitlines()) - set(lines)
    known = ("no connection is accepted", "WARNING:tensorflow")  # which traces again and again
    rest = [line for line in rest if not line.startswith(known)]
    table.expect(not rest, f"log: {rest[:3]}")
    table.row("lines in the log", len(lines))


def main(arguments=None):
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=2000, help="(2000)")
    parser.add_argument("--clients", type=int, default=50, help="at the same time (50)")
    parser.add_argument("--seed", type=int, default=0, help="of what is asked when (0)")
    parser.add_argument("--large-answer", action="store_true", help="try this part alone")
    options = parser.parse_args(arguments)
    table = Table()
    try_part = try_large_answer if options.large_answer else try_load
    try_part(table, options)
    return int(table.show())


def try_large_answer(table, options):
    with running_server(SHAPE | LARGE, LARGE_LIMITS) as server:
        asyncio.run(ask_much(server, table))
        judge_log(server, table)


def try_load(table, options):
    with running_server(SHAPE, LIMITS) as server:
        before, rng = server.descriptors(), random.Random(options.seed)
        asyncio.run(put_under_load(server, table, options.requests, options.clients, rng))
        for _ in range(50):  # of clients that left, the last signs are awaited
            if server.descriptors() <= before + 1:
                break
            time.sleep(0.1)
        table.row("file descriptors before, after", f"{before}, {server.descriptors()}")
        table.expect(server.descriptors() <= before + 1, "file descriptors are left open")
        asyncio.run(exhaust_descriptors(server, table))
        asyncio.run(drain(server, table, min(options.clients, 20)))
        judge_log(server, table)


if __name__ == "__main__":
    sys.exit(main())
