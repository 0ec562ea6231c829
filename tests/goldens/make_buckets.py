"""Freezes which bucket transformers' DeBERTa-v2 gives each distance between a query and a key.

pip install transformers==5.23.0 torch==2.13.0 && python tests/goldens/make_buckets.py
"""

import json
from pathlib import Path

FILE = Path(__file__).with_name("buckets.json")
FARTHEST = 600
SIZES = [(256, 512), (8, 24), (32, 128), (8, 12)]  # buckets, largest distance


def main():
    import torch
    from transformers.models.deberta_v2.modeling_deberta_v2 import make_log_bucket_position

    cases = []
    for buckets, distance in SIZES:
        found = make_log_bucket_position(
            torch.arange(-FARTHEST, FARTHEST + 1), buckets, distance
        ).long()
        rows = torch.clamp(found + buckets, 0, 2 * buckets - 1)
        cases.append({"buckets": buckets, "max_distance": distance, "rows": rows.tolist()})
    lines = ",\n".join(json.dumps(case) for case in cases)
    FILE.write_text(f"[\n{lines}\n]\n")


if __name__ == "__main__":
    main()
