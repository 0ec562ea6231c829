"""Makes `pegasus_tokenizer.json`: ids of IDEA-CCNL's tokenizer of PEGASUS.

    PYTHONPATH=tests:Fengshenbang-LM python -m goldens.make_pegasus_tokenizer

needs transformers 5.23.0, jieba 0.42.1 and a copy of IDEA-CCNL/Fengshenbang-LM, which has the
class. It is of the time of transformers 4, and makes its vocabulary after its base class, which
transformers 5 wants before; so the class has it here from the beginning.

Lines in which the two differ are left out: `tokenize` of transformers cuts a text at special tokens
before all else, and the class takes letters apart and strips accents after the cut into words,
bert4keras before it.
"""

import json
import sys
import tempfile
import unicodedata
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import MagicMock

from .make_tokenizers_files import Odd
from .odd_lines import LINES

GOLDEN = Path(__file__).with_name("pegasus_tokenizer.json")
# as in Google's Chinese vocabulary
FIRST = ["[PAD]", *(f"[unused{i}]" for i in range(1, 6)), "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
# of `tokenizer_config.json`
SETTINGS = {
    "do_lower_case": True,
    "never_split": None,
    "additional_special_tokens": ["<mask_1>"],
    "eos_token": "</s>",
    "pad_token": "<pad>",
    "unk_token": "<unk>",
    "mask_token": "<mask_2>",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "tokenize_chinese_chars": True,
    "strip_accents": None,
}
SPECIAL = ("<mask_", "</s>", "<unk", "<pad>", "[CLS]", "[SEP]")


def vocabulary():
    """Returns the lines of `vocab.txt`, as it is published."""
    return [*dict.fromkeys([*FIRST, *Odd().words()])]


def lines():
    """Returns the lines for which the class and ours have the same rules."""
    return [
        line
        for line in LINES
        if not any(token in line for token in SPECIAL)
        and line == unicodedata.normalize("NFD", line)
        and not any(unicodedata.category(char) == "Mn" for char in line)
    ]


def main():
    sys.modules |= {name: MagicMock() for name in ("rouge", "six")}
    from fengshen.examples.pegasus.tokenizers_pegasus import PegasusTokenizer

    renamed = {"[PAD]": "<pad>", "[UNK]": "<unk>", "[unused1]": "</s>"}
    renamed |= {"[unused2]": "<mask_1>", "[unused3]": "<mask_2>"}
    vocab = {renamed.get(token, token): i for i, token in enumerate(vocabulary())}
    start = {"vocab": vocab, "basic_tokenizer": SimpleNamespace(do_lower_case=True)}
    reference = type("Reference", (PegasusTokenizer,), start)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "vocab.txt"
        path.write_text("\n".join(vocabulary()) + "\n", "utf-8")
        tokenizer = reference(str(path), **SETTINGS)
        ids = [tokenizer.encode(line.lower()) for line in lines()]
    GOLDEN.write_text(json.dumps(ids).replace("], ", "],\n") + "\n", "utf-8")
    print(f"{len(ids)} lines, {len({i for row in ids for i in row})} ids")


if __name__ == "__main__":
    main()
