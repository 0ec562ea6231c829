"""Tokenizers for four types of vocabulary, with one interface and without any framework.

| class | vocabulary | models |
|---|---|---|
| `Tokenizer` | WordPiece, `vocab.txt` | BERT, RoFormer; with words: WoBERT, T5-PEGASUS |
| `SpTokenizer` | sentencepiece, `spiece.model` | T5, mT5, XLNet |
| `CpmTokenizer` | sentencepiece over the words of jieba | CPM, PanGu |
| `ByteBPETokenizer` | byte-level BPE, `vocab.json` and `merges.txt` | GPT-2 |

`load_tokenizer(directory)` picks the class by the files of a checkpoint.
"""

from .base import TokenizerBase
from .byte_bpe import ByteBPETokenizer
from .loading import load_tokenizer
from .sentencepiece import CpmTokenizer, SpTokenizer
from .wordpiece import Tokenizer, load_vocab, save_vocab
from .words import jieba_words

__all__ = [
    "ByteBPETokenizer",
    "CpmTokenizer",
    "SpTokenizer",
    "Tokenizer",
    "TokenizerBase",
    "jieba_words",
    "load_tokenizer",
    "load_vocab",
    "save_vocab",
]
