"""Ready `pre_tokenize` functions: text -> list of words.

jieba loads its dictionary, in about a second, when the first text comes.
"""

__all__ = ["jieba_new_words", "jieba_words"]


def jieba_words(text):
    """Words of jieba's dictionary, for WordPiece vocabularies that hold whole words.

    This is how the inputs of WoBERT, WoNEZHA, word-level RoFormer and T5-PEGASUS were made.
    The words are those of jieba's own dictionary; Hugging Face's RoFormer tokenizer takes
    another package, `rjieba`, whose dictionary may differ.

    Args:
        text: a string.

    Returns:
        A list of words whose concatenation is the text.

    Example:
        >>> tokenizer = Tokenizer("chinese_wobert/vocab.txt", pre_tokenize=jieba_words)
    """
    import jieba

    return jieba.lcut(text, HMM=False)


def jieba_new_words(text):
    """The same, where runs that the dictionary lacks may be words too: CPM's segmentation."""
    import jieba

    return jieba.lcut(text)
