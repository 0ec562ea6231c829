"""`migrate` changes imports, keeps the rest, and lists what it could not change."""

import pytest

from bert4keras_lite.applications import cli
from bert4keras_lite.applications.migrate import migrate, migrate_file

pytestmark = pytest.mark.once

SCRIPT = """\
#! -*- coding: utf-8 -*-
# 说明
from __future__ import print_function
import numpy as np
from bert4keras.backend import keras, K  # 后端
from bert4keras.layers import (
    Loss,
    ConditionalRandomField,
)
from bert4keras.snippets import sequence_padding as pad
from keras.layers import Lambda, Dense
from keras.models import Model
from keras.callbacks import Callback
from keras.utils import to_categorical
from tensorflow.keras.layers import Dropout

optimizer = keras.optimizers.Adam(lr=1e-5, beta_1 = 0.9)
x   =  [1,2,
        3]
"""
CHANGED = """\
#! -*- coding: utf-8 -*-
# 说明
from __future__ import print_function
import numpy as np
from bert4keras_lite.compat.backend import keras, K  # 后端
from bert4keras_lite.compat.layers import (
    Loss,
    ConditionalRandomField,
)
from bert4keras_lite.compat.snippets import sequence_padding as pad
from bert4keras_lite.compat.layers import Lambda, Dense
from bert4keras_lite.compat.models import Model
from keras.callbacks import Callback
from keras.utils import to_categorical
from bert4keras_lite.compat.layers import Dropout

optimizer = keras.optimizers.Adam(learning_rate=1e-5, beta_1 = 0.9)
x   =  [1,2,
        3]
"""


def test_imports_change_and_the_rest_stays():
    migrated = migrate(SCRIPT)
    assert migrated.text == CHANGED
    assert migrated.remarks == []
    assert migrate(CHANGED).text == CHANGED


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("import keras\n", "from bert4keras_lite.compat.backend import keras\n"),
        ("import keras.backend as K\n", "from bert4keras_lite.compat.backend import K\n"),
        ("from keras import backend as K\n", "from bert4keras_lite.compat.backend import K\n"),
        ("from keras import backend as B\n", "from bert4keras_lite.compat.backend import K as B\n"),
        (
            "import bert4keras.snippets as s\n",
            "import bert4keras_lite.compat.snippets as s\n",
        ),
        ("from keras.layers import *\n", "from bert4keras_lite.compat.layers import *\n"),
        ("from keras.engine.topology import Layer\n",
         "from bert4keras_lite.compat.layers import Layer\n"),
        ("from keras.preprocessing.sequence import pad_sequences\n",
         "from keras.utils import pad_sequences\n"),
        (
            "import tensorflow as tf\nx = tf.keras.layers.Dense(2)\n",
            "from bert4keras_lite.compat.backend import keras\nimport tensorflow as tf\n"
            "x = keras.layers.Dense(2)\n",
        ),
        ("from . import bert4keras\n", "from . import bert4keras\n"),
        ("text = 'from bert4keras.layers import x'\n",
         "text = 'from bert4keras.layers import x'\n"),
    ],
)  # fmt: skip
def test_forms_of_imports(old, new):
    assert migrate(old).text == new


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("g = K.gradients(loss, x)", "GradientTape"),
        ("model._make_train_function()", "adversarial_training"),
        ("model.train_function = f", "adversarial_training"),
        ("s = tf.Session()", "no sessions"),
        ("from bert4keras.layers import GatedAttentionUnit", "bias="),
        ("from bert4keras.models import data_parallel", "DataParallel"),
        ("from keras.utils import multi_gpu_model", "DataParallel"),
        ("from keras.layers import CuDNNLSTM", "LSTM"),
    ],
)
def test_what_has_no_counterpart_is_listed_with_its_line(line, words):
    remarks = migrate(f"import x\n\n{line}\n").remarks
    assert [remark.line for remark in remarks] == [3]
    assert words in remarks[0].text


def test_files_are_written_only_when_asked(tmp_path, capsys):
    path = tmp_path / "task.py"
    path.write_text("from bert4keras.backend import K\r\nK.get_session()\r\n", newline="")
    assert cli.main(["migrate", str(path)]) == 0
    shown = capsys.readouterr().out
    assert "-from bert4keras.backend import K" in shown
    assert f"{path}:2: K.get_session: there are no sessions" in shown
    assert "To be changed by hand: 1 place." in shown
    assert "bert4keras_lite" not in path.read_text()
    assert cli.main(["migrate", "--write", str(path)]) == 0
    assert path.read_bytes().startswith(b"from bert4keras_lite.compat.backend import K\r\nK.")
    capsys.readouterr()
    assert cli.main(["migrate", str(path)]) == 0
    assert "nothing to change" in capsys.readouterr().out


def test_files_that_cannot_be_read(tmp_path, capsys):
    path = tmp_path / "old.py"
    path.write_text("print 'Python 2'\n")
    with pytest.raises(ValueError, match="line 1: not Python 3"):
        migrate_file(path)
    path.write_bytes("x = '中文'\n".encode("gbk"))
    with pytest.raises(ValueError, match="not UTF-8"):
        migrate_file(path)
    assert cli.main(["migrate", str(tmp_path / "none.py")]) == 1
    assert "none.py" in capsys.readouterr().err
