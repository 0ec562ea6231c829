"""Text to ids and back, without any framework: one interface, four kinds of vocabulary.

| class | vocabulary | models |
|---|---|---|
| `Tokenizer` | WordPiece, `vocab.txt` | BERT and kin; with words: WoBERT, RoFormer, T5-PEGASUS |
| `SpTokenizer` | sentencepiece, `spiece.model` | T5, mT5, XLNet |
| `CpmTokenizer` | the same over the words of jieba | CPM, PanGu |
| `ByteBPETokenizer` | byte-level BPE, `vocab.json` and `merges.txt` | GPT-2 |

`load_tokenizer(directory)` picks the one that fits the files of a checkpoint.
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
