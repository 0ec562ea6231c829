"""Collectives of compiled steps are counted right, and the projection is its arithmetic."""

import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from benchmarks import scaling

ROOT = Path(__file__).parents[1]
ONLY_JAX = pytest.mark.skipif(keras.backend.backend() != "jax", reason="compiles with JAX")

# lines as XLA writes them
SUM = (
    "%all-reduce.7 = (f32[], f32[4,16]{1,0}, /*index=2*/bf16[8]{0}) all-reduce(%a, %b, %c), "
    "channel_id=1, replica_groups=%s, to_apply=%add, "
    'metadata={op_name="jit(train_step)/transpose(jvp(block_0))/ffn/input/dot_general"}'
)


@pytest.mark.parametrize(
    ("groups", "axis"),
    [
        ("{{0,1},{2,3}}", "model"),
        ("{{0,2},{1,3}}", "data"),
        ("[2,2]<=[4]", "model"),
        ("[2,2]<=[2,2]T(1,0)", "data"),
        ("[1,4]<=[4]", "both"),
        ("mesh['a'=2,'b'=2] {'a'}", "data"),
        ("mesh['a'=2,'b'=2] {'b'}", "model"),
        ("mesh['a'=2,'b'=2] {'a','b'}", "both"),
        ("mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'a'}", "model"),
    ],
)
def test_a_collective_is_read(groups, axis):
    (found,) = scaling.collectives(f"ENTRY\n  {SUM.replace('%s', groups)}\n", 2, 2)
    assert (found.kind, found.axis, found.way) == ("all-reduce", axis, "backward")
    assert found.shapes == ((), (4, 16), (8,))
    assert found.sizes == (4, 256, 16) and found.bytes == 276


def test_other_lines_are_none():
    program = "%x = f32[4]{0} add(%all-reduce.7, %b)\n%y = f32[] get-tuple-element(%all-reduce.7)"
    assert scaling.collectives(program, 2, 2) == []


def test_moves_between_pairs_are_read():
    line = "%p = s32[3]{0} collective-permute(%a), source_target_pairs={{0,2},{2,0}}"
    (found,) = scaling.collectives(line, 2, 2)
    assert (found.kind, found.axis, found.way, found.bytes) == (
        "collective-permute", "data", "update", 12,
    )  # fmt: skip


SCRIPT = """
import json
from benchmarks import scaling
from pretraining import config

flags = ["--model.hidden_size=16", "--model.num_attention_heads=4", "--model.vocab_size=64",
         "--model.intermediate_size=32", "--model.max_position=24", "--model.family=bert"]
for data, model, blocks in ((4, 1, 1), (2, 2, 2)):
    settings = config.load(None, [*flags, f"--model.num_hidden_layers={blocks}"])
    program, objective = scaling.compiled_step(settings, data, model, 4, 8, 3)
    found = scaling.collectives(program, data, model)
    print("RESULT", json.dumps({
        "found": [vars(one) for one in found],
        "gradients": scaling.gradient_bytes(found),
        "expected": scaling.expected_bytes(objective, model, 8),
        "trainable": sum(4 * v.value.size for v in objective.model.trainable_variables),
        "said": scaling.verdict(found, objective, model, 8),
    }))
"""


@pytest.mark.long
@ONLY_JAX
def test_a_compiled_step_exchanges_what_it_should():
    env = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=env | {"JAX_PLATFORMS": "cpu"}, cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stdout.splitlines() if line.startswith("RESULT")]
    alone, both = (json.loads(line.removeprefix("RESULT")) for line in lines)

    # data parallel: all gradients in one sum. The tied table (64 x 16) twice; of the 24 positions
    # those that 8 tokens have.
    sums = [one for one in alone["found"] if any(one["shapes"])]
    assert [(one["kind"], one["axis"], one["way"]) for one in sums] == [
        ("all-reduce", "data", "backward")
    ]
    assert alone["gradients"] == alone["expected"]
    assert alone["expected"] == alone["trainable"] + 4 * 16 * (64 - (24 - 8))
    assert "Besides" not in alone["said"] and "all-gather, 96 bytes" in both["said"]

    # model parallel: the hidden states of 2 rows of 8 tokens twice a block each way, and once for
    # the table of tokens; nothing else is gathered than, for the accuracy, each device's best score
    # and token of 3 predictions a row
    others = [one for one in both["found"] if one["kind"] != "all-reduce"]
    assert [(one["kind"], sum(one["sizes"])) for one in others] == [
        ("all-gather", 2 * 3 * 2 * 4)
    ] * 2
    for way, wanted in (("forward", [1] * 5), ("backward", [1, 1, 1, 3, 3])):
        hidden = [
            len(one["shapes"])
            for one in both["found"]
            if (one["axis"], one["way"]) == ("model", way) and one["shapes"][0][-1:] == [16]
        ]
        assert sorted(hidden) == wanted
    assert both["gradients"] == both["expected"]


def test_a_projection_is_its_arithmetic():
    chip = scaling.Chip(2, 8, 1e12, 1e9, 1e9, 1e8, "")
    step = scaling.project(chip, 8, 1e9, 5, 1e6, 1e6, 0.5)
    assert step.compute == pytest.approx(1e9 * 10 / 0.5e12)
    assert step.update == pytest.approx(0.028)
    assert step.exchange == pytest.approx(2 * 3 / 4 * 0.01)
    assert step.plain == pytest.approx(step.compute + step.update + step.exchange)
    assert step.overlapped == pytest.approx(0.02 + 0.028)
    assert scaling.project(chip, 2, 1e9, 5, 1e6, 1e6, 0.5).exchange == 0
    assert scaling.project(chip, 32, 1e9, 5, 1e6, 1e6, 0.5) is None


def test_all_chips_have_their_source():
    assert set(scaling.CHIPS) == {"v2", "v3", "v4", "v5e", "v5p"}
    assert all(chip.source for chip in scaling.CHIPS.values())


@pytest.mark.parametrize("mesh", ["8", "0x4", "1x1", "2x"])
def test_a_mesh_that_is_none(mesh, capsys):
    assert scaling.main(["--mesh", mesh]) == 2
    assert "DATAxMODEL" in capsys.readouterr().err


@pytest.mark.once
def test_the_command_of_version_0_1():
    done = subprocess.run(
        [sys.executable, "-m", "pretraining.scaling", "--help"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "Use python benchmarks/scaling.py." in done.stderr
    assert "--mesh" in done.stdout
