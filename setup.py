from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent

ONNX = ["onnx", "onnxruntime", "tf2onnx", "onnxscript"]
TESTS = ["pytest>=8", "hypothesis>=6.100", *ONNX]

setup(
    name="bert4keras_lite",
    version="0.1.0",
    description="Chinese Transformer checkpoints in Keras 3: load, use, fine-tune, on three backends",
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    packages=find_packages(include=["bert4keras_lite", "bert4keras_lite.*"]),
    install_requires=[
        "keras>=3.8",
        "numpy>=1.26",
        "ml_dtypes>=0.4",
        "regex",
        "sentencepiece",
        "jieba",
        "safetensors>=0.4.3",
        "google-crc32c>=1.5",
        "h5py>=3.10",
    ],
    extras_require={
        "tensorflow": ["tensorflow>=2.18"],
        "jax": ["jax>=0.4.35"],
        "torch": ["torch>=2.5"],
        "onnx": ONNX,
        "test": TESTS,
        "check": ["ruff==0.17.5"],
    },
)
