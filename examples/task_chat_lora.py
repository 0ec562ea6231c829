"""Fine-tunes a chat model on instructions with LoRA, and merges it into a plain checkpoint.

    python examples/task_chat_lora.py [--checkpoint DIR] [--data DIR]

The conversations have the chat template of the checkpoint. The model is frozen but for products of
two narrow matrices that are added to its linear layers, and the loss counts the tokens of the
answers alone. The scores are the perplexity of the answers that it was not trained on, and the
fraction of generated answers that are exactly those of the data. The merged model is saved to
examples/output/chat in Hugging Face's format, for this toolkit or any other.

--checkpoint: a causal chat model such as Qwen3-0.6B: a directory of Hugging Face's files, or a name
    on a hub. Without it, a small GPT-2 that has seen no conversation, with a template of its own.
--data: a directory with train, valid and test files of JSON lines with `instruction` and `output`
    (Alpaca's names).
--scored: number of conversations for the perplexity and for the answers.

References: Hu et al., "LoRA", arXiv 2106.09685; on all linear layers: Dettmers et al., "QLoRA",
arXiv 2305.14314.
"""

import argparse

import keras
import numpy as np
from keras import ops
from sample import DATA, OUTPUT

from bert4keras_lite import build_transformer_model, load_tokenizer
from bert4keras_lite.data import (
    Batches,
    next_token_labels,
    read_json_lines,
    read_splits,
    sequence_padding,
)
from bert4keras_lite.generation import generate_all
from bert4keras_lite.lora import enable_lora, merge_lora
from bert4keras_lite.losses import sequence_crossentropy
from bert4keras_lite.optimizers import AdamW, linear_decay

parser = argparse.ArgumentParser(
    description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
)
parser.add_argument("--checkpoint", default="tiny-zh-gpt2")
parser.add_argument("--data", default=DATA / "instructions")
parser.add_argument("--rank", type=int, help="of the products: 16, or 32 for tiny-zh-gpt2")
parser.add_argument("--maxlen", type=int, default=256)
parser.add_argument("--max-new-tokens", type=int, default=32)
parser.add_argument("--batch-size", type=int, default=16)
parser.add_argument("--epochs", type=int, help="3, or 8 for tiny-zh-gpt2")
parser.add_argument("--learning-rate", type=float, help="2e-4, or 2e-3 for tiny-zh-gpt2")
parser.add_argument("--scored", type=int, default=200)
parser.add_argument("--seed", type=int, default=0)
args = parser.parse_args()
is_small = args.checkpoint == "tiny-zh-gpt2"
args.rank = args.rank or (32 if is_small else 16)
args.epochs = args.epochs or (8 if is_small else 3)
args.learning_rate = args.learning_rate or (2e-3 if is_small else 2e-4)
keras.utils.set_random_seed(args.seed)
tokenizer = load_tokenizer(args.checkpoint)


# the data
def read(path):
    """(instruction, answer) pairs of a file."""
    if path.suffix not in (".json", ".jsonl"):
        return []
    return list(read_json_lines(path, lambda row: (row["instruction"], row["output"])))


def prompt_of(instruction):
    """The ids of a conversation up to where the answer begins."""
    if not tokenizer.chat_templates:
        return [tokenizer.token_start_id, *tokenizer.encode_markup(f"用户：{instruction}助手：")]
    message = {"role": "user", "content": instruction}
    options = {"add_generation_prompt": True, "enable_thinking": False}  # the second is Qwen3's
    return tokenizer.encode_markup(tokenizer.apply_chat_template([message], **options))


def encode(pair):
    """The ids of a conversation, and the position where the answer begins."""
    instruction, answer = pair
    prompt = prompt_of(instruction)
    ids = [*prompt, *tokenizer.encode_markup(answer), tokenizer.token_end_id]
    return ids[: args.maxlen], min(len(prompt), args.maxlen)


def batches(pairs, **options):
    rows = [encode(pair) for pair in pairs]
    length = lambda row: len(row[0])  # noqa: E731
    return Batches(rows, args.batch_size, collate, buckets=4, length=length, **options)


def collate(rows, length):
    """Padded ids; and labels: the tokens of the answers and the end, and -1 for all others."""
    sequences, begins = zip(*rows, strict=True)
    ids = sequence_padding(sequences, length).astype("int32")
    position, lengths = np.arange(ids.shape[1]), np.array([[len(row)] for row in sequences])
    is_answer = (position >= np.array(begins)[:, None]) & (position < lengths)
    return ids, next_token_labels(ids, is_answer)


samples = read_splits(args.data, read)
scored = samples["test"][: args.scored]

# the model
transformer = build_transformer_model(args.checkpoint, with_lm="linear", return_keras_model=False)
model = transformer.model
everywhere = "attention/|ffn/" if is_small else None  # GPT-2's default: queries and values
paths = enable_lora(model, args.rank, everywhere)
trained = sum(int(np.prod(variable.shape)) for variable in model.trainable_variables)
print(f"{len(paths)} layers with products: {trained:,} of {model.count_params():,} parameters")


def perplexity(pairs):
    """The number of equally likely tokens that would be as hard to predict as the answers'."""
    total = count = 0
    for ids, labels in batches(pairs):
        total += float(ops.sum(sequence_crossentropy(labels, model.predict_on_batch([ids]))))
        count += np.count_nonzero(labels >= 0)
    return np.exp(total / count)


def answers(pairs):
    """The answer that the model gives to each instruction."""
    prompts = [prompt_of(instruction) for instruction, _ in pairs]
    options = {"stop_ids": tokenizer.stop_ids}
    rows = generate_all(model, prompts, args.max_new_tokens, args.batch_size, **options)
    return [tokenizer.decode(best.ids).strip() for best, *_ in rows]


def score(name):
    """Prints both scores; returns the answers."""
    found = answers(scored)
    exact = np.mean([text == answer for text, (_, answer) in zip(found, scored, strict=True)])
    print(f"{name}: perplexity of answers {perplexity(scored):.3f}, exact answers {exact:.3f}")
    return found


before = score("before training")

# the training
train = batches(samples["train"], shuffle=True)
schedule = linear_decay(args.epochs * len(train))
optimizer = AdamW(args.learning_rate, weight_decay=0.0, lr_schedule=schedule)
model.compile(optimizer, sequence_crossentropy)
model.optimizer.build(model.trainable_variables)  # one trace
model.fit(train, epochs=args.epochs)

# the result
merge_lora(model)
after = score("test")
for (instruction, answer), *texts in list(zip(scored, before, after, strict=True))[:8]:
    print(f"{instruction}\n  before: {texts[0]}\n  after: {texts[1]}\n  right: {answer}")
folder = OUTPUT / "chat"
transformer.save_checkpoint(folder, format="hf", vocab=tokenizer)
print(f"saved to {folder}")
