"""Requests a second for the vector of a text, beside sentence-transformers behind FastAPI.

    python benchmarks/vectors_served.py --peer PYTHON [--rounds 3] [--requests 320]

32 clients ask for the vectors of texts of 32 characters, one text a request, each as soon as its
last one is answered. The model is a BERT of base shape with random weights, mean of the last hidden
states. `PYTHON` is an interpreter that has sentence-transformers, FastAPI and uvicorn; its server
has a plain function as endpoint, as their documents show, which FastAPI runs in threads. Ours is
`python -m bert4keras_lite serve` on the backend of KERAS_BACKEND. The servers run by turns, each in
a process of its own; a first crowd, in which shapes are compiled, is not counted. Prints one line
of JSON for each round, with the largest difference between the vectors of both.
"""

import argparse
import asyncio
import json
import socket
import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np

CLIENTS, CHARACTERS = 32, 32


def write_pooling(directory):
    """Writes the files of sentence-transformers that say how vectors are made: both read them."""
    kinds = {"": "Transformer", "1_Pooling": "Pooling"}
    modules = [
        {"idx": i, "name": str(i), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for i, (path, kind) in enumerate(kinds.items())
    ]
    Path(directory, "modules.json").write_text(json.dumps(modules))
    Path(directory, "1_Pooling").mkdir()
    pooling = {"word_embedding_dimension": 768, "pooling_mode_mean_tokens": True}
    Path(directory, "1_Pooling", "config.json").write_text(json.dumps(pooling))


def serve_peer(directory, port):
    """Serves a checkpoint by sentence-transformers and FastAPI."""
    import uvicorn
    from fastapi import FastAPI
    from sentence_transformers import SentenceTransformer

    model, app = SentenceTransformer(directory), FastAPI()

    @app.get("/health")
    def health():
        return {"waiting": 0, "running": 0}

    @app.post("/v1/vectors")
    def vectors(body: dict):
        return {"vectors": model.encode(body["texts"]).tolist()}

    uvicorn.run(app, host="127.0.0.1", port=port, log_level="error")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", help="interpreter with sentence-transformers")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=320)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--serve", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        return serve_peer(arguments.serve[0], int(arguments.serve[1]))

    from serving import VOCABULARY, Server, checkpoint, crowd, one_pass

    class Peer(Server):
        """The peer's server."""

        def __init__(self, directory):
            with socket.socket() as place:
                place.bind(("127.0.0.1", 0))
                self.port = place.getsockname()[1]
            self.command = [arguments.peer, __file__, "--serve", directory, str(self.port)]

    random = np.random.default_rng(0)
    characters = VOCABULARY.read_text("utf-8").split("\n")
    characters = [c for c in characters if len(c) == 1 and "\u4e00" <= c <= "\u9fff"]
    bodies = [
        {"texts": ["".join(random.choice(characters, CHARACTERS))]}
        for _ in range(arguments.requests)
    ]
    with tempfile.TemporaryDirectory() as directory:
        checkpoint(directory, "bert", arguments.layers, "hf")
        write_pooling(directory)
        for number in range(arguments.rounds):
            row, answers = {"round": number + 1}, {}
            for name, server in (("ours", Server(directory)), ("peer", Peer(directory))):
                with server as address:
                    asyncio.run(crowd(address, CLIENTS, bodies[: 2 * CLIENTS], one_pass))
                    found, seconds = asyncio.run(crowd(address, CLIENTS, bodies, one_pass))
                answers[name] = np.array([vector for _, _, vector in found])
                row[f"{name}, requests/s"] = round(len(bodies) / seconds, 2)
                row[f"{name}, median s"] = round(statistics.median(s for s, *_ in found), 3)
            row["ratio"] = round(row["ours, requests/s"] / row["peer, requests/s"], 2)
            row["difference"] = float(np.abs(answers["ours"] - answers["peer"]).max())
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    sys.exit(main())
