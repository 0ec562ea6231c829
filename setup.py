from pathlib import Path

from setuptools import find_packages, setup

here = Path(__file__).parent

ONNX = ["onnx", "onnxruntime", "tf2onnx", "onnxscript"]
HUB = ["huggingface_hub>=0.34", "modelscope-hub>=0.5"]
METRICS = ["sacrebleu>=2.4", "rouge-score>=0.1.2"]
PLOTS = ["matplotlib>=3.8"]
# h11 and starlette before these versions have known faults with hostile requests
SERVE = [
    "fastapi>=0.115",
    "starlette>=0.49.1",
    "pydantic>=2.8",
    "uvicorn>=0.30",
    "h11>=0.16",
    "httpx>=0.27",
]
# older sandboxes of templates have known ways out
CHAT = ["jinja2>=3.1.6"]
MIGRATE = ["libcst>=1.5"]
CORPORA = ["pyyaml>=6", "zstandard>=0.22"]
TESTS = [
    "pytest>=8",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    *ONNX,
    *HUB,
    *METRICS,
    *PLOTS,
    *SERVE,
    *CHAT,
    *MIGRATE,
    *CORPORA,
]

setup(
    name="bert4keras_lite",
    version="0.1.0",
    description=(
        "Chinese Transformer checkpoints in Keras 3: load, use, fine-tune, on three backends"
    ),
    long_description=(here / "README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    package_data={
        "bert4keras_lite": ["py.typed", "included/NOTICE.txt", "included/*/*"],
        "bert4keras_lite.applications": ["everyday.txt", "serving/page/*"],
        "pretraining": ["recipes/*.yaml"],
    },
    entry_points={"console_scripts": ["bert4keras_lite = bert4keras_lite.applications.cli:main"]},
    packages=find_packages(include=["bert4keras_lite", "bert4keras_lite.*", "pretraining"]),
    install_requires=[
        "keras>=3.12",
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
        "hub": HUB,
        "metrics": METRICS,
        "plots": PLOTS,
        "serve": SERVE,
        "chat": CHAT,
        "migrate": MIGRATE,
        "browser": ["playwright>=1.40"],
        "pretraining": [*CORPORA, *PLOTS, "tensorboard>=2.16"],
        "beam": ["apache-beam>=2.60"],
        "classics": ["gensim>=4.3"],
        "test": TESTS,
        "check": ["ruff==0.17.5", "mypy==2.4.1"],
    },
)
