"""Makes `chat.json`: texts and ids of conversations, by the chat templates of `chat_templates.py`.

    python -m goldens.make_chat        # in tests, with transformers 5.23.0 and jinja2 3.1.6

The reference is `AutoTokenizer.apply_chat_template` on the directories that `write` makes. For each
template, conversation and set of options there is `[text, ids]`, or null if transformers raises an
error.
"""

import json
import tempfile
from pathlib import Path

from .chat_templates import CASES, CONVERSATIONS, OPTIONS
from .make_tokenizers_files import Odd, write_case

GOLDEN = Path(__file__).resolve().parent / "chat.json"


def write(folder, name, as_file=False):
    """Writes the directory of a case.

    Args:
        folder: where to; it exists.
        name: a key of `CASES`.
        as_file: whether the template stands in a file of its own.
    """
    template, case, tokens = CASES[name]
    write_case(folder, case, Odd())
    path = Path(folder, "tokenizer_config.json")
    config = {**json.loads(path.read_text("utf-8")), **tokens}
    if as_file:
        Path(folder, "chat_template.jinja").write_text(template, "utf-8", newline="\n")
    else:
        config["chat_template"] = template
    path.write_text(json.dumps(config), "utf-8")


def asked():
    """Yields the key in the golden file, the messages and the options of each call."""
    for name, messages in CONVERSATIONS.items():
        for number, options in enumerate(OPTIONS):
            yield f"{name} {number}", messages, options


def main():
    import jinja2
    import transformers

    def call(tokenizer, messages, options):
        try:
            text = tokenizer.apply_chat_template(messages, tokenize=False, **options)
        except (jinja2.TemplateError, TypeError):
            return None
        made = tokenizer.apply_chat_template(messages, tokenize=True, return_dict=False, **options)
        return [text, made]

    content = {}
    for name in CASES:
        with tempfile.TemporaryDirectory() as folder:
            write(folder, name)
            tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
            content[name] = {
                key: call(tokenizer, messages, options) for key, messages, options in asked()
            }
    lines = [
        f"{json.dumps(name)}: {{\n"
        + ",\n".join(
            f"{json.dumps(k)}: {json.dumps(v, ensure_ascii=False)}" for k, v in rows.items()
        )
        + "\n}"
        for name, rows in content.items()
    ]
    GOLDEN.write_text("{" + ",\n".join(lines) + "}\n", "utf-8")


if __name__ == "__main__":
    main()
