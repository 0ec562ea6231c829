"""No example is without a quick run."""

import ast
import runpy
import sys
from pathlib import Path

import keras
import pytest

pytestmark = pytest.mark.once

HERE = Path(__file__).parent
EXAMPLES = HERE.parents[1] / "examples"
ELSEWHERE = {"basic_serving_client"}  # tests/test_serving.py
# what a script may import of this folder: where the sample is, and what belongs to its subject
# alone
COMPANIONS = {
    "quickstart": {"pictures"},
    "basic_text_generation_t5": {"small_t5"},
    "task_seq2seq_autotitle_csl_mt5": {"small_t5"},
    "task_seq2seq_ape210k_math_word_problem": {"arithmetic"},
    "task_language_model_chinese_chess": {"xiangqi"},
    "task_entity_linking": {"entity_index", "prepare_entity_linking"},
    "task_question_answer_generation": {"question_answers"},
}
LONGEST = 200  # lines of a script


def strings(node):
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant)}


def test_every_script_is_run_by_make_test():
    names = set()
    for path in HERE.glob("test_*.py"):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            decorators = getattr(node, "decorator_list", [])
            if not any("long" in ast.unparse(decorator) for decorator in decorators):
                names |= strings(node)
    scripts = {
        path.stem
        for path in EXAMPLES.glob("*.py")
        if path.stem.startswith(("task_", "basic_", "classic_", "choose_", "quickstart"))
    }
    ways = {f"task_reading_comprehension_by_{way}" for way in ("span", "seq2seq", "mlm")}
    assert scripts - names - ELSEWHERE - ways == set()
    assert {way.rpartition("_")[2] for way in ways} <= names


class ReachedTraining(BaseException):
    """Ends a script at its first `fit`; no script catches it."""


def reached(model, *arguments, **options):
    raise ReachedTraining


SCRIPTS = sorted(
    path for kind in ("basic", "classic", "task") for path in EXAMPLES.glob(f"{kind}_*.py")
)
TRAINING = [path for path in SCRIPTS if ".fit(" in path.read_text("utf-8")]


@pytest.mark.parametrize("path", TRAINING, ids=lambda path: path.stem)
def test_a_script_gets_to_its_training_without_options(path, monkeypatch):
    """With the included models and the sample data; the other tests give it a small checkpoint."""
    monkeypatch.setattr(sys, "argv", [path.name])
    monkeypatch.setattr(keras.Model, "fit", reached)
    with pytest.raises(ReachedTraining):
        runpy.run_path(str(path), run_name="__main__")


def test_scripts_stand_alone():
    names = {path.stem for path in EXAMPLES.glob("*.py")}
    for path in EXAMPLES.glob("*.py"):
        imported = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                imported.add(node.module)
            elif isinstance(node, ast.Import):
                imported |= {alias.name for alias in node.names}
        assert imported & names - {"sample"} == COMPANIONS.get(path.stem, set()), path.name


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_a_script_is_short_and_takes_a_seed(path):
    source = path.read_text(encoding="utf-8")
    assert source.count("\n") <= LONGEST
    if ".fit(" in source and "ArgumentParser" in source:
        assert '"--seed"' in source and "set_random_seed(args.seed)" in source
