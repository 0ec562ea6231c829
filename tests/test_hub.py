"""Names of models on hubs, against servers on loopback that speak the hubs' protocols."""

import hashlib
import json
import os
import random
import re
import shutil
import ssl
import subprocess
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bert4keras_lite.hub import HubError, download, is_name, local_directory, needed_files

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[1]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEXTS = ["config.json", "special_tokens_map.json", "tokenizer_config.json", "vocab.txt"]
# each format of weights as it is published
FORMATS = {
    "safetensors": ["model.safetensors"],
    "safetensors in shards": [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
        "model.safetensors.index.json",
    ],
    "TensorFlow": [
        "bert_model.ckpt.data-00000-of-00002",
        "bert_model.ckpt.data-00001-of-00002",
        "bert_model.ckpt.index",
        "checkpoint",
    ],
    "PyTorch": ["pytorch_model.bin"],
    "PyTorch in shards": [
        "pytorch_model-00001-of-00002.bin",
        "pytorch_model-00002-of-00002.bin",
        "pytorch_model.bin.index.json",
    ],
}
# what sentence-transformers and BGE-M3 add, and files that they have for other programs
MODULES = [
    "1_Pooling/config.json",
    "2_Dense/config.json",
    "2_Dense/model.safetensors",
    "colbert_linear.pt",
    "config_sentence_transformers.json",
    "modules.json",
    "sentence_bert_config.json",
    "sparse_linear.pt",
]
NEVER_OF_MODULES = [
    "1_Pooling/README.md",
    "2_Dense/optimizer.pt",
    "2_Dense/pytorch_model.bin",
    "2_Dense/x/config.json",
    "2_Dense/../config.json",
    "imgs/config.json",
    "onnx/model.onnx_data",
    "openvino/openvino_model.bin",
]
NEVER = [
    ".gitattributes",
    "README.md",
    "bert_model.ckpt.meta",
    "flax_model.msgpack",
    "model.fp16.safetensors",
    "onnx/model.onnx",
    "onnx/config.json",
    "optimizer.pt",
    "pytorch_model.msgpack",
    "rust_model.ot",
    "tf_model.h5",
    "training_args.bin",
]


def test_names_and_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("checkpoints").mkdir()
    names = [
        "hfl/chinese-roberta-wwm-ext",
        "hfl/rbt3@main",
        "hfl/rbt3@refs/pr/1",
        "hf:hfl/rbt3",
        "modelscope:dienstag/rbt3@v1.0",
        "uer/gpt2_v1.5",
        "hf:checkpoints/bert",  # a prefix decides, whatever directories there are
    ]
    paths = [
        "checkpoints",
        "checkpoints/bert",
        "checkpoints/bert_model.ckpt",
        "no_such/bert_model.ckpt",
        "no_such/bert_model.ckpt-1000",
        "no_such/vocab.txt",
        "./hfl/rbt3",
        "../hfl/rbt3",
        "/hfl/rbt3",
        "~/rbt3",
        "hfl\\rbt3",
        "C:/rbt3",
        "a/b/c",
        "hfl",
        "",
        "hfl/",
        "https://huggingface.co/hfl/rbt3",
        "hf:hfl/rbt3@a/../../b",
        "中文/模型",
        Path("hfl/rbt3"),
    ]
    assert [name for name in names if not is_name(name)] == []
    assert [path for path in paths if is_name(path)] == []
    for path in paths:
        assert local_directory(path) is path
        with pytest.raises(HubError, match="owner/name"):
            download(path)


def test_names_longer_than_files_have():
    """Patterns with several `.*` would take long for them."""
    fits = "config" * 40 + ".json"
    assert needed_files([fits, "config" * 50 + ".json", "config" * 100_000 + "\n"]) == ([fits], [])


@settings(deadline=None, derandomize=True)
@given(st.sets(st.sampled_from(sorted(FORMATS))), st.randoms(use_true_random=False))
def test_needed_files(formats, rng):
    weights = {name for format in formats for name in FORMATS[format]}
    files = [*weights, *TEXTS, *NEVER]
    rng.shuffle(files)
    preferred = next((FORMATS[format] for format in FORMATS if format in formats), [])
    assert needed_files(files) == (TEXTS, preferred)


def test_files_of_modules_are_needed():
    files = [*TEXTS, *MODULES, *NEVER, *NEVER_OF_MODULES, "model.safetensors"]
    assert needed_files(files) == (sorted([*TEXTS, *MODULES]), ["model.safetensors"])
    inner = [f"0_Transformer/{name}" for name in (*TEXTS, "pytorch_model.bin", "tf_model.h5")]
    texts, weights = needed_files([*inner, *MODULES])
    assert weights == ["0_Transformer/pytorch_model.bin"]
    assert texts == sorted([*inner[: len(TEXTS)], *MODULES])
    others = [name for name in MODULES if name != "modules.json"]  # it names the folders
    assert needed_files(others)[0] == [name for name in others if "/" not in name]


@pytest.mark.parametrize(
    "files",
    [
        ["bert_config.json", "vocab.txt"],
        ["added_tokens.json", "config.json", "merges.txt", "tokenizer.json", "vocab.json"],
        ["encoder.json", "hparams.json", "vocab.bpe"],
        ["chinese_vocab.model", "config.json"],
        ["config.json", "sentencepiece_cn.model", "sentencepiece_cn_keep_tokens.json"],
    ],
)
def test_vocabularies_of_every_kind_are_needed(files):
    assert needed_files([*files, *NEVER]) == (files, [])


def test_import_is_light():
    code = "import sys, bert4keras_lite.hub; print(*{m.split('.')[0] for m in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    clients = {"huggingface_hub", "modelscope_hub", "requests", "httpx", "tqdm"}
    frameworks = {"numpy", "keras", "tensorflow", "torch", "jax"}
    assert not set(done.stdout.split()) & (clients | frameworks)


@pytest.mark.parametrize("name", ["hfl/tiny", "modelscope:hfl/tiny"])
def test_without_the_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    monkeypatch.setitem(sys.modules, "modelscope_hub", None)
    with pytest.raises(HubError, match=r"pip install 'bert4keras_lite\[hub\]'"):
        local_directory(name)


class Hub:
    """A server of models on loopback, which notes what it is asked for.

    `models`: name -> {file: content}. `closed`: names whose files are given to nobody.
    `script`: for a file, what to do with the next requests for its content: `"half"` sends one
    half and hangs up, a number answers with that status.
    """

    def __init__(self):
        self.models, self.closed, self.script, self.log = {}, set(), {}, []
        hub = self

        class Handler(self.Protocol):
            def __init__(self, *args):
                self.hub = hub
                super().__init__(*args)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"http://127.0.0.1:{self.server.server_port}"
        Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def stop(self):
        self.server.shutdown()
        self.server.server_close()

    def publish(self, name, *lists):
        rng = random.Random(name)
        files = {file: rng.randbytes(60_000) for files in lists for file in files}
        self.models[name] = files
        return files

    def gets(self):
        """File -> the `Range` headers with which its content was asked for."""
        gets = {}
        for method, file, asked in self.log:
            if method == "GET" and file:
                gets.setdefault(file, []).append(asked)
        return gets


class Protocol(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *args):
        pass

    def do_HEAD(self):
        self.do_GET()

    def do_GET(self):
        url = urlsplit(self.path)
        self.serve(url.path, {key: value[0] for key, value in parse_qs(url.query).items()})

    def note(self, file=None):
        self.hub.log.append((self.command, file, self.headers["Range"]))

    def answer(self, status, body=b"", **headers):
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def answer_json(self, value, status=200, **headers):
        self.answer(status, json.dumps(value).encode(), Content_Type="application/json", **headers)

    def send_file(self, file, content, **headers):
        self.note(file)
        script = self.hub.script.get(file) if self.command == "GET" else None
        step = script.pop(0) if script else None
        if isinstance(step, int):
            return self.answer(step)
        start = int((re.match(r"bytes=(\d+)-", self.headers["Range"] or "") or [0, 0])[1])
        part = content[start:]
        if start:
            headers["Content_Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if step != "half":
            return self.answer(206 if start else 200, part, Accept_Ranges="bytes", **headers)
        self.send_response(200)
        self.send_header("Content-Length", str(len(part)))
        self.end_headers()
        self.wfile.write(part[: len(part) // 2])
        self.close_connection = True


class HuggingFaceHub(Hub):
    prefix, branch = "", "main"

    class Protocol(Protocol):
        def serve(self, path, query):
            match = re.fullmatch(
                r"(?:/api/models)?/(?P<name>[^/]+/[^/]+)"
                r"(?:/(?P<what>revision|tree|resolve)/(?P<revision>[^/]+)/?(?P<file>.*))?",
                path,
            )
            files = self.hub.models.get(match["name"]) if match else None
            if files is None:  # so the real one answers without a token
                self.note()
                return self.answer(401, X_Error_Code="RepoNotFound")
            if match["revision"] not in ("main", COMMIT, None):
                self.note()
                return self.answer(404, X_Error_Code="RevisionNotFound")
            if match["what"] == "resolve":
                if match["name"] in self.hub.closed:
                    self.note(match["file"])
                    return self.answer(403, X_Error_Code="GatedRepo")
                content = files[match["file"]]
                etag = f'"{hashlib.sha256(content).hexdigest()}"'
                return self.send_file(match["file"], content, ETag=etag, X_Repo_Commit=COMMIT)
            self.note()
            if match["what"] in ("revision", None):
                siblings = [{"rfilename": file} for file in files]
                return self.answer_json({"id": match["name"], "sha": COMMIT, "siblings": siblings})
            return self.answer_json(
                [
                    {
                        "type": "file",
                        "path": file,
                        "size": len(content),
                        "oid": hashlib.sha1(content).hexdigest(),
                    }
                    for file, content in files.items()
                ]
            )


class ModelScopeHub(Hub):
    prefix, branch = "modelscope:", "master"

    class Protocol(Protocol):
        def serve(self, path, query):
            match = re.fullmatch(
                r"/api/v1/models/(?P<name>[^/]+/[^/]+)/repo(?P<list>/files)?", path
            )
            files = self.hub.models.get(match["name"]) if match else None
            if files is None or query.get("Revision", "master") != "master":
                self.note()
                return self.answer_json({"Code": 10010205001, "Message": "not found"}, 404)
            if not match["list"]:
                if match["name"] in self.hub.closed:
                    self.note(query["FilePath"])
                    return self.answer_json({"Code": 403, "Message": "no access"}, 403)
                return self.send_file(query["FilePath"], files[query["FilePath"]])
            self.note()
            entries = [
                {
                    "Path": file,
                    "Type": "blob",
                    "Size": len(content),
                    "Sha256": hashlib.sha256(content).hexdigest(),
                }
                for file, content in files.items()
            ]
            return self.answer_json({"Code": 200, "Success": True, "Data": {"Files": entries}})


HUBS = {"huggingface_hub": HuggingFaceHub, "modelscope_hub": ModelScopeHub}


@pytest.fixture(params=sorted(HUBS))
def hub(request, monkeypatch, tmp_path):
    pytest.importorskip(request.param)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("MODELSCOPE_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    if request.param == "huggingface_hub":  # has read the variable when it was first imported
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    hub = HUBS[request.param]()
    yield hub
    hub.stop()


@pytest.fixture
def where(hub, tmp_path):
    return {"cache_dir": tmp_path / "cache", "endpoint": hub.address}


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.mark.parametrize("format", FORMATS)
def test_fetches_what_is_needed_once(hub, where, format):
    name = hub.prefix + "hfl/tiny"
    files = hub.publish("hfl/tiny", NEVER, TEXTS, FORMATS[format])
    needed = {file: files[file] for file in [*TEXTS, *FORMATS[format]]}

    directory = local_directory(name, **where)
    assert contents(directory) == needed
    assert hub.gets() == {file: [None] for file in needed}

    hub.log.clear()
    assert local_directory(name, **where) == directory
    assert local_directory(f"{name}@{hub.branch}", **where) == directory
    assert hub.log == []

    # asked for by hand, the hub is asked, and nothing is sent twice
    assert download(name, **where) == (directory, [*TEXTS, *FORMATS[format]])
    assert hub.log != [] and hub.gets() == {}

    for lost in FORMATS[format]:  # a model that is not whole is not taken for one
        if lost != "checkpoint":  # the state file says nothing that the index does not
            (directory / lost).unlink()
            assert contents(local_directory(name, **where)) == needed


def files_below(directory):
    paths = [path for path in directory.rglob("*") if path.is_file()]
    return {path.relative_to(directory).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.parametrize("folder", ["", "0_Transformer/"])
def test_modules_are_fetched_once(hub, where, folder):
    name = hub.prefix + "hfl/sentences"
    model = [folder + file for file in [*TEXTS, "model.safetensors"]]
    files = hub.publish("hfl/sentences", model, MODULES, NEVER_OF_MODULES)
    needed = {file: files[file] for file in [*model, *MODULES]}
    directory = local_directory(name, **where)
    assert files_below(directory) == needed
    assert {*hub.gets()} == {*needed}
    asked = list(hub.gets())
    assert {*asked[-2:]} == {model[-1], "modules.json"}  # with which it is complete
    hub.log.clear()
    assert local_directory(name, needs=["modules.json"], **where) == directory
    assert hub.log == []
    for lost in (model[-1], "modules.json"):
        (directory / lost).unlink()
        assert files_below(local_directory(name, needs=["modules.json"], **where)) == needed


def test_a_cached_model_without_the_files_that_are_asked_for(hub, where):
    """As other programs leave it, or an earlier version of this one."""
    name = hub.prefix + "hfl/sentences"
    hub.publish("hfl/sentences", TEXTS, ["model.safetensors"])
    directory = local_directory(name, **where)
    assert local_directory(name, needs=["modules.json"], **where) == directory  # there is none
    del hub.models["hfl/sentences"]
    assert local_directory(name, **where) == directory
    with pytest.warns(UserWarning, match="The files in the cache are used"):
        assert local_directory(name, needs=["modules.json"], **where) == directory


def test_weights_come_last(hub, where):
    hub.publish("hfl/tiny", FORMATS["safetensors"], TEXTS)
    local_directory(hub.prefix + "hfl/tiny", **where)
    assert list(hub.gets())[-1] == "model.safetensors"


def test_a_broken_connection_is_resumed(hub, where, monkeypatch):
    if isinstance(hub, HuggingFaceHub):  # its client keeps whole chunks only, usually of 10 MB
        monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 1000)
    files = hub.publish("hfl/tiny", TEXTS, FORMATS["safetensors"])
    hub.script["model.safetensors"] = ["half"]
    name = hub.prefix + "hfl/tiny"
    try:
        directory = local_directory(name, **where)
    except HubError:  # before 2.0 huggingface_hub leaves it to the caller to try again
        directory = local_directory(name, **where)
    assert (directory / "model.safetensors").read_bytes() == files["model.safetensors"]
    first, second = hub.gets()["model.safetensors"]
    assert first is None and re.fullmatch(r"bytes=30000-(59999)?", second)


def test_nothing_half_looks_whole(hub, where):
    name = hub.prefix + "hfl/tiny"
    files = hub.publish("hfl/tiny", TEXTS, FORMATS["safetensors"])
    hub.script["model.safetensors"] = ["half", 403]
    with pytest.raises(HubError):
        local_directory(name, **where)
    hub.script.clear()
    left = [
        path.name for path in where["cache_dir"].rglob("*") if path.name.endswith(".safetensors")
    ]
    assert left == []
    assert contents(local_directory(name, **where)) == files


def test_what_is_cached_is_used_when_the_rest_cannot_be_fetched(hub, where):
    name = hub.prefix + "hfl/no-vocabulary"
    files = hub.publish("hfl/no-vocabulary", ["config.json"], FORMATS["safetensors"])
    directory = local_directory(name, **where)
    del hub.models["hfl/no-vocabulary"]
    with pytest.warns(UserWarning, match="The files in the cache are used"):
        assert local_directory(name, **where) == directory
    assert contents(directory) == files


def test_unknown_names(hub, where):
    hub.publish("hfl/tiny", TEXTS, FORMATS["safetensors"])
    for name in ["hfl/tinny", "hfl/tiny@no-such-branch", "hfl/tiny--"]:
        with pytest.raises(HubError, match=f"^{name}: no such path, and no such model at") as error:
            local_directory(hub.prefix + name, **where)
        assert hub.address in str(error.value)


def test_closed_models(hub, where):
    hub.publish("hfl/closed", TEXTS, FORMATS["safetensors"])
    hub.closed.add("hfl/closed")
    with pytest.raises(HubError, match=r"^hfl/closed: access is .*access at .*hfl/closed.*log in"):
        local_directory(hub.prefix + "hfl/closed", **where)


def test_models_without_weights(hub, where):
    hub.publish("hfl/flax", TEXTS, NEVER)
    with pytest.raises(HubError, match=r"holds no weights that can be read.*flax_model\.msgpack"):
        local_directory(hub.prefix + "hfl/flax", **where)
    assert hub.gets() == {}


def test_offline(hub, where, monkeypatch):
    name = hub.prefix + "hfl/tiny"
    hub.publish("hfl/tiny", TEXTS, FORMATS["safetensors"])
    hub.publish("hfl/half", TEXTS, FORMATS["safetensors"])
    directory = local_directory(name, **where)
    half = local_directory(hub.prefix + "hfl/half", **where)
    (half / "model.safetensors").unlink()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    hub.log.clear()
    assert local_directory(name, **where) == directory
    with pytest.raises(
        HubError, match=r"HF_HUB_OFFLINE is set.*cache has config\.json.*vocab\.txt of"
    ):
        local_directory(hub.prefix + "hfl/half", **where)
    with pytest.raises(
        HubError, match=r"cache has nothing of it.*into a directory and pass its path"
    ):
        local_directory(hub.prefix + "hfl/other", **where)
    assert hub.log == []


def test_no_network(hub, where):
    hub.stop()
    with pytest.raises(
        HubError, match=r"^hfl/tiny: cannot be downloaded \(.*set \w+_ENDPOINT to a mirror"
    ):
        local_directory(hub.prefix + "hfl/tiny", **where)


def test_environment_variables(hub, tmp_path):
    files = hub.publish("hfl/tiny", TEXTS, FORMATS["safetensors"], NEVER)

    def run(**more):
        variables = {
            "HF_ENDPOINT": hub.address,
            "HF_HUB_CACHE": str(tmp_path / "hf"),
            "MODELSCOPE_ENDPOINT": hub.address,
            "MODELSCOPE_CACHE": str(tmp_path / "ms"),
        }
        code = "import sys; from bert4keras_lite.hub import *; print(local_directory(sys.argv[1]))"
        done = subprocess.run(
            [sys.executable, "-c", code, hub.prefix + "hfl/tiny"],
            capture_output=True,
            text=True,
            cwd=ROOT,
            env=os.environ | variables | more,
        )
        assert done.returncode == 0, done.stderr
        return Path(done.stdout.strip())

    directory = run()
    assert directory.is_relative_to(tmp_path)
    assert contents(directory) == {file: files[file] for file in [*TEXTS, "model.safetensors"]}
    hub.log.clear()
    assert run() == run(HF_HUB_OFFLINE="1") == directory
    assert hub.log == []


# ---------------------------------------------------------------- tokens

OWN = {
    "huggingface_hub": ["https://huggingface.co", "HTTPS://hf.co/", "https://huggingface.co:443"],
    "modelscope_hub": ["https://modelscope.cn", "https://www.modelscope.ai/"],
}
FOREIGN = [
    "http://huggingface.co",
    "http://modelscope.cn",
    "https://hf-mirror.com",
    "https://huggingface.co.example.com",
    "https://example.com/huggingface.co",
    "https://modelscope.cn:8443",
    "https://example.com\\@huggingface.co",
    "https://huggingface.co@example.com",
    "",
]


@pytest.mark.parametrize("client", sorted(HUBS))
def test_whom_a_token_may_be_sent_to(client, monkeypatch):
    from bert4keras_lite import hub

    kind = {"huggingface_hub": hub.HuggingFace, "modelscope_hub": hub.ModelScope}[client]
    model = object.__new__(kind)
    assert all(map(model.trusts, OWN[client])) and not any(map(model.trusts, FOREIGN))
    monkeypatch.setenv(hub.TOKEN_HOSTS, "HF-mirror.com, modelscope.cn:8443")
    assert model.trusts("https://hf-mirror.com/a") and model.trusts("https://modelscope.cn:8443")
    assert not model.trusts("http://hf-mirror.com") and not model.trusts("https://hf-mirror.com:1")


class TokenSpy:
    """Notes in `hub.tokens` which requests bring a token."""

    def parse_request(self):
        parsed = super().parse_request()
        sent = f"{self.headers['Authorization']} {self.headers['Cookie']}" if parsed else ""
        if SECRET in sent:
            self.hub.tokens.append(self.path)
        return parsed


SECRET = "hf_secretsecretsecret"


def spying(hub):
    """Lets a hub note tokens from now on."""
    hub.tokens = []
    handler = hub.server.RequestHandlerClass
    hub.server.RequestHandlerClass = type("Spying", (TokenSpy, handler), {})
    return hub


def fetch_in_a_new_process(name, tmp_path, **variables):
    """What a program says that fetches a model with a token in its environment."""
    code = "import sys; from bert4keras_lite.hub import *; print(download(sys.argv[1]).directory)"
    variables = {"HF_TOKEN": SECRET, "MODELSCOPE_API_TOKEN": SECRET, **variables}
    variables |= {"HF_HUB_CACHE": str(tmp_path / "hf"), "MODELSCOPE_CACHE": str(tmp_path / "ms")}
    return subprocess.run(
        [sys.executable, "-c", code, name],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=os.environ | {"NO_PROXY": "127.0.0.1,localhost"} | variables,
    )


def test_a_mirror_gets_no_token(hub, tmp_path):
    spying(hub).publish("hfl/tiny", TEXTS, FORMATS["safetensors"])
    hub.closed.add("hfl/closed")
    hub.publish("hfl/closed", TEXTS, FORMATS["safetensors"])
    address = {"HF_ENDPOINT": hub.address, "MODELSCOPE_ENDPOINT": hub.address}
    # plain http: not even where it is wanted
    trusted = {"BERT4KERAS_LITE_TOKEN_HOSTS": hub.address.removeprefix("http://")}
    done = fetch_in_a_new_process(f"{hub.prefix}hfl/tiny", tmp_path, **address, **trusted)
    assert done.returncode == 0, done.stderr
    done = fetch_in_a_new_process(f"{hub.prefix}hfl/closed", tmp_path, **address)
    assert f"No token is sent to {hub.address}" in done.stderr and SECRET not in done.stderr
    assert hub.log and hub.tokens == []


@pytest.fixture
def certificate(tmp_path):
    """A certificate of this machine for loopback, and its key."""
    if not shutil.which("openssl"):
        pytest.skip("there is no openssl")
    paths = tmp_path / "certificate.pem", tmp_path / "key.pem"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-out", paths[0], "-keyout"]
    names = "subjectAltName=IP:127.0.0.1,DNS:localhost"
    subprocess.run([*command, paths[1], "-addext", names], check=True, capture_output=True)
    return paths


def test_a_token_goes_where_it_is_told_and_no_further(hub, tmp_path, certificate):
    """Over https to a host that is named; the files lie at another host, as on the hubs."""
    spying(hub).publish("hfl/tiny", TEXTS, FORMATS["safetensors"])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    hub.server.socket = context.wrap_socket(hub.server.socket, server_side=True)
    storage = spying(type(hub)())
    storage.models, port = hub.models, hub.server.server_port

    def send_file(handler, file, content, **headers):
        handler.note(file)
        moved = f"http://localhost:{storage.server.server_port}{handler.path}"
        size = {"X_Linked_Size": str(len(content)), "X_Linked_ETag": headers.get("ETag", "")}
        handler.answer(302, Location=moved, **headers, **(size if headers else {}))

    hub.server.RequestHandlerClass.send_file = send_file
    address = f"https://127.0.0.1:{port}"
    variables = {
        "HF_ENDPOINT": address,
        "MODELSCOPE_ENDPOINT": address,
        "BERT4KERAS_LITE_TOKEN_HOSTS": f"127.0.0.1:{port}",
        "SSL_CERT_FILE": str(certificate[0]),
        "REQUESTS_CA_BUNDLE": str(certificate[0]),
    }
    try:
        done = fetch_in_a_new_process(f"{hub.prefix}hfl/tiny", tmp_path, **variables)
    finally:
        storage.stop()
    assert done.returncode == 0, done.stderr
    assert hub.tokens and storage.log and storage.tokens == []


@pytest.mark.parametrize(
    "texts", [TEXTS, pytest.param([], id="none, which is no leave to fetch all")]
)
def test_names_that_lead_out_of_the_cache_are_not_asked_for(hub, where, tmp_path, texts):
    mine = tmp_path / "mine"
    mine.write_bytes(b"mine")
    strange = [str(mine), "../../../../../../mine", f"..{os.sep}vocab.txt", "config\0.json"]
    files = hub.publish("hfl/tiny", strange, texts, FORMATS["safetensors"])
    wanted = [*texts, "model.safetensors"]
    directory, names = download(hub.prefix + "hfl/tiny", **where)
    assert sorted(names) == sorted(wanted) == sorted(hub.gets())
    assert contents(directory) == {name: files[name] for name in wanted}
    assert mine.read_bytes() == b"mine"


def damage_by(text):
    return lambda path: path.write_bytes(text)


@pytest.mark.parametrize(
    ("what", "damage", "message"),
    [
        ("refs/main", os.mkfifo, "expected a file, and it is a directory, a pipe or a device"),
        ("refs/main", Path.mkdir, "expected a file, and it is a directory, a pipe or a device"),
        ("refs/main", damage_by(b"\xff\xfe"), "expected the hash of a commit"),
        ("refs/main", damage_by(b"a\0b"), "expected the hash of a commit"),
        ("refs/main", damage_by(b""), "expected the hash of a commit"),
        ("refs/main", damage_by(b"x" * 5000), "expected the hash of a commit"),
        ("refs/main", damage_by(b"../../mine"), "expected the hash of a commit"),
        (f"trees/{COMMIT}.json", os.mkfifo, "expected a file, and it is a directory, a pipe"),
        (f"snapshots/{COMMIT}", damage_by(b"f"), "nothing of it"),
    ],
)
def test_caches_of_strangers(tmp_path, monkeypatch, what, damage, message):
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    model = tmp_path / "models--hfl--tiny"
    mine = tmp_path / "mine"
    for directory in (model / "refs", model / "trees", model / "snapshots" / COMMIT, mine):
        directory.mkdir(parents=True)
    for name in (*TEXTS, *FORMATS["safetensors"]):
        (mine / name).write_bytes(b"{}")
    (model / "refs" / "main").write_text(COMMIT)
    path = model / what
    path.rmdir() if path.is_dir() else path.unlink(missing_ok=True)
    damage(path)
    with pytest.raises(HubError, match=message) as error:
        local_directory("hfl/tiny", cache_dir=tmp_path)
    assert len(str(error.value)) < 1000


def test_messages_about_caches_of_strangers(hub, where, monkeypatch):
    hub.publish("hfl/tiny", TEXTS, FORMATS["safetensors"])
    directory = local_directory(hub.prefix + "hfl/tiny", **where)
    (directory / "model.safetensors").unlink()
    for i in range(100):
        (directory / f"{'z' * 200}\x1b[31m{i}").touch()
    (directory / "a\x1b[31m").touch()
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(HubError, match=r"cache has a\\x1b\[31m, config\.json") as error:
        local_directory(hub.prefix + "hfl/tiny", **where)
    assert len(str(error.value)) < 1000
