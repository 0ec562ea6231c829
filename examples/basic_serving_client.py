"""Sends requests to a running server: many texts at once, and a stream of generated text.

    python -m bert4keras_lite serve DIR &
    python examples/basic_serving_client.py [--address http://127.0.0.1:8000]

If the server requires a token, set the variable BERT4KERAS_LITE_TOKEN, or pass --token.
Needs `pip install "bert4keras_lite[serve]"`. Tasks that the server's model does not support are
skipped.
"""

import argparse
import asyncio
import json
import os
import time

import httpx

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--address", default="http://127.0.0.1:8000")
parser.add_argument("--token", default=os.environ.get("BERT4KERAS_LITE_TOKEN"))
args = parser.parse_args()
headers = {"Authorization": f"Bearer {args.token}"} if args.token else {}


def check(response):
    """Ends the program with what the server says is wrong."""
    if response.is_error:
        raise SystemExit(response.json()["error"]["message"])


async def ask(client, path, **body):
    """One answer; when the server is busy, it says when to come back."""
    while True:
        response = await client.post(f"/v1/{path}", json=body)
        if response.status_code != 503:
            break
        await asyncio.sleep(float(response.headers.get("Retry-After", 1)))
    check(response)
    return response.json()


async def main():
    async with httpx.AsyncClient(base_url=args.address, headers=headers, timeout=120) as client:
        response = await client.get("/v1/model")
        check(response)
        model = response.json()
        print(f"{model['name']}: {model['family']}, {', '.join(model['abilities'])}")

        if "fill-mask" in model["abilities"]:
            texts = [f"今天是星期{day}，天[MASK]真好。" for day in "一二三四五六日"]
            begin = time.perf_counter()
            answers = await asyncio.gather(*(ask(client, "fill-mask", texts=[t]) for t in texts))
            print(f"\n{len(texts)} requests at once, {time.perf_counter() - begin:.2f} s")
            for answer in answers:
                best = answer["results"][0]["masks"][0][0]
                print(
                    f"  {answer['results'][0]['text']}  {best['token']} {best['probability']:.1%}"
                )

        if "generate" in model["abilities"]:
            body = {"text": "今天天气", "sample": True, "stream": True}
            print("\n今天天气", end="", flush=True)
            async with client.stream("POST", "/v1/generate", json=body) as response:
                if response.is_error:
                    await response.aread()
                check(response)
                async for line in response.aiter_lines():
                    if line.startswith("data: "):
                        data = json.loads(line[6:])
                        if "message" in data:  # of the event `error`
                            raise SystemExit(data["message"])
                        print(data.get("text", ""), end="", flush=True)
            print()


asyncio.run(main())
