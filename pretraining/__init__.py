"""From raw text to a pretrained checkpoint; run from the root of the repository, see README.md."""
