"""The server under load, on this machine: what it answers a second, how fast, and how right.

    python benchmarks/serving.py [--quick]

Starts `serve` in a process of its own, on the backend that KERAS_BACKEND names, with a BERT of base
shape and then a GPT-2 of base shape, random weights. First every request is sent alone; then N
clients send the same requests at once, each as soon as its last one is answered. The peer is the
server itself with `batch=1`: one text a forward pass. Every answer is compared with the one it got
alone.

Prints one line of JSON for each row: requests a second, median and 95th percentile of the seconds
a request took, how many were answered 200, 503 or not at all, the largest difference from the
answer alone; for writing, tokens a second and seconds to the first piece. `--quick` only shows that
it runs: two layers, few requests.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx
import numpy as np

os.environ.setdefault("KERAS_BACKEND", "tensorflow")
CLIENTS = (1, 8, 32)
REQUESTS = 96
TEXTS_WRITTEN, NEW_TOKENS = 8, 32
VOCABULARY = Path(__file__).parents[1] / "examples/data/vocab.txt"
SHAPE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
    "max_position": 512,
}


def checkpoint(directory, family, layers, format="tf"):
    """A directory with random weights."""
    from bert4keras_lite import Tokenizer, build_transformer_model

    tokenizer = Tokenizer(VOCABULARY)
    transformer = build_transformer_model(
        **SHAPE | {"num_hidden_layers": layers},
        model=family,
        vocab_size=tokenizer.vocab_size,
        with_lm=True,
        return_keras_model=False,
    )
    transformer.save_checkpoint(directory, format=format, vocab=tokenizer)


class Server:
    """`serve` in a process of its own: a context that gives its address."""

    def __init__(self, directory, **limits):
        with socket.socket() as place:
            place.bind(("127.0.0.1", 0))
            self.port = place.getsockname()[1]
        words = [f"--limit={name}={value}" for name, value in limits.items()]
        command = ["-m", "bert4keras_lite", "serve", directory, "--port", str(self.port), *words]
        self.command = [sys.executable, *command]

    def __enter__(self):
        self.process = subprocess.Popen(
            self.command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        address = f"http://127.0.0.1:{self.port}"
        for _ in range(600):
            try:
                health = httpx.get(f"{address}/health").json()
                if not health["waiting"] + health["running"]:  # what it tries at the start is done
                    return address
            except httpx.ConnectError:
                if self.process.poll() is not None:
                    break
            time.sleep(0.5)
        raise SystemExit(f"{' '.join(self.command)}: did not start.")

    def __exit__(self, *_):
        self.process.send_signal(signal.SIGINT)
        self.process.wait(120)


async def crowd(address, clients, bodies, ask):
    """What `ask(client, body)` gives for each body, asked by so many clients; and the seconds."""
    todo, found = list(enumerate(bodies)), [None] * len(bodies)
    limits = httpx.Limits(max_connections=clients)

    async def work(client):
        while todo:
            i, body = todo.pop()
            found[i] = await ask(client, body)

    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=300) as client:
        begin = time.perf_counter()
        await asyncio.gather(*(work(client) for _ in range(clients)))
        return found, time.perf_counter() - begin


async def one_pass(client, body):
    """Seconds, status and the numbers of an answer."""
    begin = time.perf_counter()
    path = "/v1/fill-mask" if "top" in body else "/v1/vectors"
    response = await client.post(path, json=body)
    seconds = time.perf_counter() - begin
    if response.status_code != 200:
        return seconds, response.status_code, None
    answer = response.json()
    if "vectors" in answer:
        return seconds, 200, np.array(answer["vectors"][0])
    candidates = answer["results"][0]["masks"][0]
    return seconds, 200, np.array([one["probability"] for one in candidates])


async def writing(client, body):
    """Seconds to the first piece and to the end, the text, its number of tokens."""
    begin, first, text = time.perf_counter(), None, ""
    async with client.stream("POST", "/v1/generate", json=body) as response:
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                data = json.loads(line[6:])
                first = first or time.perf_counter() - begin
                text += data.get("text", "")
    return first, time.perf_counter() - begin, text, data["tokens"]


def bodies_of(count, random):
    """Half of them vectors, half masks; 5 to 100 characters."""
    characters = [line for line in VOCABULARY.read_text("utf-8").split("\n") if len(line) == 1]
    characters = [c for c in characters if "\u4e00" <= c <= "\u9fff"]
    texts = ["".join(random.choice(characters, random.integers(5, 100))) for _ in range(count)]
    return [
        {"texts": [text]} if i % 2 else {"texts": [f"{text}[MASK]"], "top": 5}
        for i, text in enumerate(texts)
    ]


def report(**row):
    rounded = {k: float(f"{v:.4g}") if isinstance(v, float) else v for k, v in row.items()}
    print(json.dumps(rounded), flush=True)


def measure_passes(directory, requests, clients):
    bodies = bodies_of(requests, np.random.default_rng(0))
    with Server(directory, batch=1) as address:
        alone, _ = asyncio.run(crowd(address, 1, bodies, one_pass))
        _, seconds = asyncio.run(crowd(address, clients[-1], bodies, one_pass))
        report(case="passes", batch=1, clients=clients[-1], requests_per_second=requests / seconds)
    with Server(directory) as address:
        for count in clients:
            for _ in range(2):  # the first time some shapes are compiled
                found, seconds = asyncio.run(crowd(address, count, bodies, one_pass))
            times = [one[0] for one in found]
            codes = [one[1] for one in found]
            differences = [
                float(np.abs(one[2] - other[2]).max())
                for one, other in zip(found, alone, strict=True)
                if one[1] == 200
            ]
            report(
                case="passes",
                batch=16,
                clients=count,
                requests_per_second=requests / seconds,
                median_seconds=statistics.median(times),
                p95_seconds=float(np.percentile(times, 95)),
                answered=codes.count(200),
                busy=codes.count(503),
                lost=sum(one is None for one in found),
                largest_difference=max(differences),
            )


def measure_writing(directory, texts, tokens):
    starts = ["今天天气", "我们学校", "这本书", "北京", "早上好", "音乐", "他说", "春天来了"][
        :texts
    ]
    bodies = [{"text": text, "max_new_tokens": tokens, "stream": True} for text in starts]
    with Server(directory) as address:
        for clients in (1, len(bodies)):
            for _ in range(2):
                found, seconds = asyncio.run(crowd(address, clients, bodies, writing))
            if clients == 1:
                alone = found
            report(
                case="writing",
                clients=clients,
                tokens_per_second=sum(one[3] for one in found) / seconds,
                first_piece_seconds=statistics.median(one[0] for one in found),
                same_texts=sum(a[2] == b[2] for a, b in zip(found, alone, strict=True)),
                texts=len(bodies),
            )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    layers = 2 if quick else SHAPE["num_hidden_layers"]
    with tempfile.TemporaryDirectory() as directory:
        checkpoint(f"{directory}/bert", "bert", layers)
        measure_passes(
            f"{directory}/bert", 16 if quick else REQUESTS, CLIENTS[:2] if quick else CLIENTS
        )
        checkpoint(f"{directory}/gpt2", "gpt2", layers)
        measure_writing(
            f"{directory}/gpt2", 2 if quick else TEXTS_WRITTEN, 8 if quick else NEW_TOKENS
        )


if __name__ == "__main__":
    main()
