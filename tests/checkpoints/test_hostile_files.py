"""Files of strangers: whatever they claim, one clear error or right values, within limits.

`tests/hostile.py` makes each file and opens it in a process that the kernel limits: ten CPU
seconds, and beside the memory that it has 64 MB and eight times the bytes of the file.
"""

import ast
import fcntl
import json
import os
import subprocess
import sys
from functools import cache
from pathlib import Path

import h5py
import numpy as np
import pytest

from bert4keras_lite.checkpoints import CheckpointError, hdf5, open_checkpoint
from bert4keras_lite.data import read_json_lines

pytestmark = pytest.mark.once

ROOT = Path(__file__).resolve().parents[2]
CPU_SECONDS, MEMORY, TIMES = 10, 64 << 20, 8

# what is harmless, and what is read of it
OPENED = {
    "torch_legacy_views": "2 tensors, 20 bytes",
    "torch_one_model_twice": "1 tensors, 8 bytes",
    "torch_long_names": "2000 tensors, 32000 bytes",
    "torch_foreign_calls": "1 tensors, 16 bytes",
    "torch_another_root": "1 tensors, 16 bytes",
    "torch_memo_numbers": "1 tensors, 4 bytes",
    "torch_idle": "1 tensors, 16 bytes",
    "torch_tiny_tensors": "49000 tensors, 784000 bytes",
    "torch_flipped_value": "15 tensors, 430 bytes",
    "paddle_one_array": "40000 tensors, 160000 bytes",
    "zip_64": "2 tensors, 24 bytes",
    "npz_allowed_zeros": "1 tensors, 33554432 bytes",
    "npz_packed_arrays": "10000 tensors, 120000 bytes",
    "npz_second_version": "1 tensors, 12 bytes",
    "hdf5_many_chunks": "125 tensors, 66250000 bytes",
    "hdf5_backwards": "200 tensors, 3276800 bytes",
    "hdf5_allowed_fills": "1 tensors, 54525952 bytes",
    "hdf5_filtered": "1 tensors, 8000 bytes",
    "hdf5_many_groups": "3000 tensors, 0 bytes",
    "keras_plain": "2 tensors, 32 bytes",
    "keras_probed": "5 tensors",
    "megatron_one_checkpoint": "1 tensors, 8 bytes",
    "keras_shards_many": "500 tensors, 2000 bytes",
    "keras_shards_repeated": "1 tensors, 4 bytes",
    "safetensors_tiny_tensors": "49000 tensors, 49000 bytes",
    "tf_restarts": "2 tensors, 32 bytes",
    "tf_most_slices": "90 tensors, 184320 bytes",
    "tf_slices_of_one": "1 tensors, 196000 bytes",
    "safetensors_repeating_names": "5 unknown names",
    "safetensors_repeating_states": "0 unknown names",
    "shards_of_many_tensors": "91991 tensors, 91991 bytes",
    "shards_of_short_names": "60000 tensors, 60000 bytes",
    "shards_of_unlisted_names": "5 tensors, 0 bytes",
    "shards_links_to_one": "40 tensors, 0 bytes",
    "shards_link": "3 tensors, 20 bytes",
    "config_repeating_key": "1",
    "config_repeating_class": "bert",
    "config_many_notes": "1",
    "tokenizer_config_repeating_key": "11 tokens",
    "added_tokens_many": "60011 tokens",
    "extra_ids_many": "65540 tokens",
    "vocab_long_line": "12 tokens",
    "byte_bpe_most_merges": "80256",
    "sentencepiece_long_number": "6 tokens",
    "sentencepiece_numbers": "6 tokens",
    "sentencepiece_many_pieces": "300003 tokens",
    "sentencepiece_most_pieces": "270003 tokens",
    "sentencepiece_of_xlm_r": "250002 tokens",
    "shard_of_a_long_row": "131072 tokens",
    "pairs_of_short_rows": "3200002 bytes",
    "pairs_of_many_columns": "10 bytes",
    "corpus_packed_most": "1 documents",
    "corpus_huge_entity": "1111; & b",
    "corpus_run_of_signs": "3 characters, 0 Chinese, 1 texts",
    "corpus_runs_of_signs": "2097150 characters, 0 Chinese, 1 texts",
    "corpus_entities": "4194303 characters, 0 Chinese, 1 texts",
    "corpus_short_words": "4194302 characters, 0 Chinese, 1 texts",
    "corpus_short_tags": "2516579 characters, 0 Chinese, 1 texts",
    "corpus_chinese": "1400000 characters, 1400000 Chinese, 1 texts",
    "corpus_surrogate": "2 documents",
    "texts_wide": "0 texts",
    "texts_columns": "0 texts",
    "texts_brackets": "1 texts",
    "texts_deep": "1 texts",
    "texts_surrogate": "1 texts",
    "corpus_short_lines": "16000268 bytes",
    "log_short_rows": "400001 rows",
}

# part of the error
REFUSED = {
    "safetensors_repeating_quantization": "its weights are quantized (see '.quant_state.",
    "paddle_copies": "a pickle that would take far more memory than its length explains",
    "paddle_long_text": "'latin-1' codec can't encode characters",
    "paddle_number_as_name": "an array has the name 5, which is not a text",
    "paddle_after_its_end": "after its dict there are 5 bytes",
    "paddle_wrong_size": "'a' of shape (1099511627776,) does not have 4398046511104 bytes",
    "paddle_huge_shape": "'a' has the impossible shape (1180591620717411303424,)",
    "paddle_shape_of_tuples": "'a' has the impossible shape ((((((",
    "paddle_state_of_nothing": "'a' is not described",
    "paddle_dtype_of_tuples": "a dtype whose code is not a string",
    "paddle_deep": "holds no arrays by name; expected a state_dict",
    "paddle_tuple_bomb": "a tuple that is not a name and an array",
    "paddle_many_names": "more than 50000 arrays",
    "torch_copies": "a shape of 60000 axes",
    "torch_dictionaries": "a pickle that would take far more memory than its length explains",
    "torch_deep_key": "holds no tensors by name",
    "torch_deep_storage_key": "a persistent object that is not a storage",
    "torch_deep_list": "holds no tensors by name",
    "torch_deep_dictionaries": "damaged or truncated",
    "torch_colliding_keys": "holds no tensors by name",
    "torch_compressed": "its member 'm/data.pkl' is larger than can be",
    "torch_compressed_instructions": "a pickle that would take far more memory than its length",
    "torch_compressed_text": "holds no tensors by name",
    "torch_many_names": "more than 50000 tensors",
    "torch_repeated_values": "'4' of shape (1048576,) repeats its values",
    "torch_overlapping_windows": "'w' of shape (2, 2, 2097152) repeats its values",
    "torch_repeated_complex": "'a' of shape (3145728,) repeats its values",
    "torch_storage_of_more": "its storage '0' of 5 values cannot take 16 bytes",
    "torch_storage_of_two_dtypes": "its storage '0' is described twice, and differently",
    "torch_two_of_one_name": "two tensors are named 'a.b'; expected a name for each",
    "torch_huge_shape": "'a' has the impossible shape (1180591620717411303424,)",
    "torch_huge_integer": "'a' has the impossible shape (<an integer of 7999999 bits>,)",
    "torch_shape_of_tuples": "'a' has the impossible shape ((((((",
    "torch_strides_of_tuples": "'a' has the impossible shape ((((((",
    "torch_keys_of_tuples": (
        "'<tuple 0>' holds values of kind tuple as a key, and only numbers can be"
    ),
    "torch_legacy_key_of_tuples": "a storage whose key is not a string",
    "torch_legacy_pickles": "a pickle that would take far more memory than its length explains",
    "torch_nested_names": "a pickle that would take far more memory than its length explains",
    "torch_wide_names": "a pickle that would take far more memory than its length explains",
    "torch_memo": "a pickle that would take far more memory than its length explains",
    "torch_two_roots": "members outside of the directory 'm/'",
    "torch_attributes": "attributes of a value that is not an object of a class",
    "torch_attributes_of_parameter": "attributes of a tensor that may change its values",
    "torch_attributes_of_dictionary": "attributes of a value that is not an object of a class",
    "torch_items_of_default": "takes from 0 to 1 positional arguments but 2 were given",
    "torch_before_a_mark": "an instruction without all of its operands",
    "torch_marks": "a pickle that would take far more memory than its length explains",
    "torch_foreign_names": "a name of 200001 characters",
    "torch_unknown_kinds": "holds values of kind torch._rebuild_kkkkkkkkkkkkkk",
    "torch_itself": "holds no tensors by name",
    "torch_legacy_huge_storage": "of 1 values cannot take 73786976294838206460 bytes",
    "zip_many_members": "it has 300000 members",
    "zip_comment": "its list of members should take 164 bytes from byte 760",
    "zip_members_that_overlap": "its member '0001.npy' overlaps with another",
    "zip_members_at_one_place": "its member '00036.npy' is larger than can be",
    "zip_another_member": "its member 'm/data/1' overlaps with another",
    "zip_encrypted": "its member 'm/data/0' is encrypted",
    "npz_packed_more": "its member 'a.npy' has another size or checksum",
    "npz_packed_fewer": "its member 'a.npy' has another size or checksum",
    "npz_packed_others": "its member 'a.npy' has another size or checksum",
    "npz_zeros": "its member 'a.npy' is larger than can be",
    "npz_many_headers": "too many headers, or too long ones, for",
    "npz_brackets": "damaged or truncated",
    "npz_minuses": "damaged or truncated",
    "npz_long_description": "a description of 29360140 bytes",
    "npz_twice": "its member 'a.npy' is there twice",
    "npz_bzip2": "its member 'a.npy' is compressed by a method other than deflate",
    "torch_bzip2": "its member 'm/data.pkl' is compressed by a method other than deflate",
    "torch_twice": "its member 'm/data/0' is there twice",
    "npz_flipped_value": "the checksum of its member 'a.npy' is wrong",
    "npz_objects": "'a' holds values of dtype object, and only numbers can be read",
    "hdf5_cycle": "'group/soft' is a link; expected none",
    "hdf5_external_link": "'a' is a link; expected none",
    "hdf5_two_names": "'a' has another name; expected one for each group and array",
    "hdf5_chunk": "'a' of shape (1,) would take 268435456 bytes",
    "hdf5_fill": "'a' of shape (134217728,) would take 536870912 bytes",
    "hdf5_many_fills": "'23' of shape (1048576,) would take 4194304 bytes",
    "hdf5_unknown_filter": "damaged or truncated",
    "hdf5_name_of_bytes": "the name 'layers\\xff' is not in UTF-8; expected text",
    "hdf5_layer_of_bytes": "the name 'dense\\xff' is not in UTF-8; expected text",
    "hdf5_external": "'a' holds values of dtype uint8, or from other files, and only numbers",
    "hdf5_virtual": "'a' holds values of dtype uint8, or from other files, and only numbers",
    "hdf5_times": "'a' holds values of dtype object, or from other files, and only numbers",
    "hdf5_large_converted": "'a' of shape (1073741824,) would take 8589934592 bytes",
    "hdf5_repeating_names": "names that take 12",
    "keras_compressed": "its member 'model.weights.h5' is compressed; expected one that is stored",
    "keras_external": "'a' is not an array of numbers in this file, as Keras writes them",
    "keras_compound": "'a' is not an array of numbers in this file, as Keras writes them",
    "keras_texts": "'a' is not an array of numbers in this file, as Keras writes them",
    "keras_references": "'a' is not an array of numbers in this file, as Keras writes them",
    "keras_nothing": "'a' is not an array of numbers in this file, as Keras writes them",
    "keras_told_dtype": "'a' is not an array of numbers in this file, as Keras writes them",
    "keras_told_dtypes": "'a' is not an array of numbers in this file, as Keras writes them",
    "keras_told_numbers": "'a' is not an array of numbers in this file, as Keras writes them",
    "keras_soft_link": "'a' is a link; expected none",
    "keras_external_link": "'a' is a link; expected none",
    "keras_type": "'a' is a type; expected groups and arrays",
    "keras_shards_itself": "names an index as a shard: 'm.weights.json'",
    "keras_shards_above": "names a shard outside of its directory: '../m.weights.h5'",
    "keras_shards_missing": "00001.weights.h5: this shard, listed in ",
    "keras_shards_elsewhere": "'/1/vars' should be in this file, according to ",
    "keras_shards_twice": "'0/vars/0' is in '00000.weights.h5', and in others",
    "keras_shards_of_numbers": "unhashable type: 'list'",
    "keras_shards_of_another_format": "brain.safetensors: is not HDF5; expected a shard of ",
    "keras_shards_damaged": "00001.weights.h5: ",
    "torch_legacy_view_twice": "its view 'v' is described twice, and differently",
    "torch_legacy_view_as_storage": "a view and a storage have the same key",
    "torch_legacy_beyond_its_view": "'a' of shape (4,) does not fit into its storage",
    "torch_letters": "it has several members named 'm/data/x', if case is ignored",
    "torch_two_pickles": "it has several members named 'm/data.pkl', if case is ignored",
    "torch_view_in_an_archive": "a view on a storage, which archives do not have",
    "torch_two_models": (
        "holds two models with the same names of tensors, one of them under 'model'"
    ),
    "tf_long_prefix": "too many names, or too long ones, for 520105 bytes",
    "tf_long_index_keys": "too many names, or too long ones, for 1000887 bytes",
    "tf_many_blocks": "it has more than 50000 blocks",
    "tf_long_descriptions": "too many tensors, or too long descriptions, for",
    "tf_wide_slices": "zip() argument 2 is shorter than argument 1",
    "tf_one_block_often": "its blocks overlap",
    "tf_empty_blocks": "its blocks overlap",
    "tf_snappy_zeros": "a block of 2812506 bytes that grows to 60000000",
    "tf_snappy_before_start": "a copy from before the beginning of a block",
    "tf_snappy_long_literal": "a block of 1 bytes that should have 100",
    "tf_snappy_grows": "a block of 65 bytes that should have 10",
    "tf_many_fields": "a message of more than 50000 fields",
    "tf_shape_twice": "field 2 twice in a message that has it once",
    "tf_size_twice": "field 1 twice in a message that has it once",
    "tf_type_of_field": "field 1 of wire type 5, expected 0",
    "tf_unknown_rank": "a tensor of unknown rank",
    "tf_slices_of_variables_of_many_axes": "its slices have more than 262144 axes in total",
    "tf_field_in_a_slice": "field 3 in a slice",
    "tf_many_slices": "it refers to more slices than it has",
    "tf_slices_of_many_axes": "20 slices whose edges make a grid of 25600000000 cells",
    "tf_slices_of_a_grid": "slices of '00' are missing, or there twice",
    "tf_slices_overlap": "slices of 'a' are missing, or there twice",
    "tf_slices_of_another_dtype": "a slice of 'a' has dtype float32, and the whole int32",
    "tf_slices_of_a_long_name": "it refers to more slices than it has",
    "tf_slices_out_of_range": "a slice of 'a' has the wrong shape (2,)",
    "tf_slices_at_one_place": "its tensors take 419430400 bytes, more than the data files have",
    "tf_slices_of_nothing": "damaged or truncated",
    "tf_tensors_at_one_place": "its tensors take 41943040000 bytes, more than the data files have",
    "tf_flipped_value": "the checksum of 'bert/embeddings/词向量' is wrong",
    "tf_many_shards": (
        "this shard (4611686018427387905 of 9223372036854775807) is missing; expected"
    ),
    "tf_restart_in_a_value": "a restart point is not the start of an entry",
    "tf_no_restart_at_first": "a block does not start with a restart point",
    "tf_restarts_beyond": "a block does not start with a restart point",
    "tf_block_before_its_names": "a name is not in the block that the list of blocks gives for it",
    "tf_repeats_too_much": "an entry shares more of a key than the previous one has",
    "tf_data_pipe": "expected a file, and it is a directory, a pipe or a device",
    "tf_state_of_bytes": "names b'\\xff\\xfe', which is not UTF-8. Pass the prefix itself",
    "tf_state_long": "cannot be read: File name too long",
    "tf_state_elsewhere": "outside of this directory, which has no such file",
    "tf_no_header": "it has no header",
    "tf_slice_missing": "a slice of 'a' is missing",
    "tf_tensors_that_overlap": "two tensors have byte 2 of a file",
    "tf_index_pipe": "m.index: expected a file, and it is a directory, a pipe or a device",
    "tf_state_twice": "has model_checkpoint_path 2 times; expected it once",
    "tf_state_pipe": "checkpoint: expected a file, and it is a directory, a pipe or a device",
    "tf_state_null": "holds no checkpoint; looked for model.safetensors,",
    "safetensors_deep": "a JSON text with 1000001 items in 2000006 bytes",
    "safetensors_less_deep": "lists or objects more than 100 deep within each other",
    "safetensors_wide": "a JSON text with 4000003 items in 6000010 bytes",
    "safetensors_wide_objects": "a JSON text with 4000003 items in 6000010 bytes",
    "safetensors_wide_text": "string indices must be integers, not 'str'",
    "safetensors_huge_number": "Exceeds the limit (4300 digits) for integer string conversion",
    "safetensors_infinity": "'a' of shape (1,) cannot take inf bytes",
    "safetensors_overlap": "an overlap with others at 'b'",
    "safetensors_twice": "the key 'a' is there twice",
    "safetensors_gap": "a gap before 'a'",
    "safetensors_trailing": "56 bytes after its last tensor",
    "safetensors_many_tensors": "it lists 50001 tensors, more than 50000",
    "safetensors_surrogate": "half of a character, such as \\ud800 alone",
    "safetensors_text_as_shape": "'a' has the impossible shape '\\U000e0001",
    "safetensors_list": "list indices must be integers or slices, not str",
    "shards_itself": "names an index as a shard: 'm.safetensors.index.json'",
    "shards_of_indexes": "names an index as a shard: '1a.index.json'",
    "shards_of_too_many_tensors": "it lists 100000 tensors; expected 1 to 50000",
    "shards_of_torch_names": "1.bin: damaged or truncated: ValueError: a pickle that would take",
    "shards_above": "names a shard outside of its directory: '..'",
    "shards_null": "names a shard outside of its directory: 'a\\x00b'",
    "shards_nothing": "it lists 0 tensors; expected 1 to 50000",
    "shards_list": "'list' object has no attribute 'values'",
    "shards_deep": "a JSON text with 1000000 items in 1000000 bytes",
    "shards_long_name": "expected a file name of at most 255 bytes",
    "shards_hdf5": "has the format npz; expected safetensors or torch, for a shard",
    "shards_pipe": "is missing",
    "megatron_scalar": "'x.query_key_value.weight' has the shape (), which cannot be shared",
    "megatron_links": "two of the files mp_rank_*_model_states.pt are links to the same file",
    "megatron_no_third": "'x.query_key_value.weight' has the shape (2, 2), which cannot be shared",
    "megatron_vector": "'y.mlp.dense_4h_to_h.weight' has the shape (4,), which cannot be shared",
    "megatron_gap": "holds 2 of the files mp_rank_*_model_states.pt, but none of rank 01.",
    "megatron_repeated": "'word_embeddings.weight' of shape (1048576,) repeats its values",
    "megatron_many_names": "mp_rank_01_model_states.pt: damaged or truncated: ValueError: a pickle",
    "megatron_two_of_one_name": "two tensors are named 'x.query_key_value.query.weight'",
    "megatron_two_checkpoints": "'position_embeddings.weight' is not the same in all of the files",
    "megatron_two_iterations": "iteration is 6 in one of the files mp_rank_*_model_states.pt;",
    "megatron_rank_missing": "mp_world_size is 4 in one of the files mp_rank_*_model_states.pt;",
    "megatron_other_layout": "checkpoint_version is 2 in one of the files",
    "megatron_shapes": "the files mp_rank_*_model_states.pt hold 'x.query_key_value.weight' in",
    "name_too_long": "cannot be read: File name too long",
    "name_with_null": "no file can have such a name",
    "pipe": "expected a file, and it is a directory, a pipe or a device",
    "device": "expected a file, and it is a directory, a pipe or a device",
    "config_no_activation": (
        "hidden_act is []; expected a name, or a list of a name and 'linear' for a gate"
    ),
    "config_long_key": "is unknown, and may change the architecture. If it does not, remove",
    "config_no_heads": "num_attention_heads is 0; expected an integer from 1 to 2147483647",
    "config_huge_size": "hidden_size is 1000000",
    "config_no_layers": "num_hidden_layers is 0; expected an integer from 1 to 128",
    "config_infinite_rate": "initializer_range is inf; expected a number from 0 to 1e+30",
    "config_dropout_of_two": "hidden_dropout_prob is 2; expected a number from 0 to 1",
    "config_huge_gpt": "n_embd is [0, 0, 0,",
    "config_gate_of_nothing": "feed_forward_proj is 'gated-'; expected e.g. 'gated-gelu'",
    "config_unknown_keys": "60000 keys are unknown, such as 'made_up_0'",
    "config_nested_objects": "a JSON text with 819001 items in 4878007 bytes",
    "config_repeating_geometry": "is part of the architecture",
    "config_deep": "a JSON text with 1000000 items in 1000000 bytes",
    "config_deep_value": "lists or objects more than 100 deep within each other",
    "config_wide": "a JSON text with 4000002 items in 6000004 bytes",
    "config_huge_number": "Exceeds the limit (4300 digits) for integer string conversion",
    "config_surrogate": "half of a character, such as \\ud800 alone",
    "config_unhashable_type": "model_type is ['bert']; expected a name",
    "config_list_of_positions": "max_position_embeddings is {}; expected an integer from 1 to",
    "config_pipe": "expected a file, and it is a directory, a pipe or a device",
    "config_device": "expected a file, and it is a directory, a pipe or a device",
    "tokenizer_json_deep": "lists or objects more than 100 deep within each other",
    "tokenizer_json_wide": "a JSON text with 4000003 items in 6000010 bytes",
    "tokenizer_json_nested_parts": "expected the parts of a tokenizer, got values of other types",
    "tokenizer_json_long_token": "; expected the same. Delete the file that does not belong",
    "tokenizer_json_long_word": "max_input_chars_per_word is -1; expected a whole number from 0",
    "tokenizer_json_long_words": (
        "max_input_chars_per_word is 2147483647; expected a whole number from 0"
    ),
    "tokenizer_config_long_words": (
        "max_input_chars_per_word is 1001; expected a whole number from 0 to"
    ),
    "tokenizer_json_long_merge": "ab ab ; expected pairs of symbols",
    "tokenizer_json_many_patterns": "has 999 regular expressions that split texts; expected at",
    "sentences_of_one_module": "the path '2_Dense' is that of several modules; expected a",
    "tokenizer_json_huge_id": "expected ids from 0 to 16777215",
    "tokenizer_config_deep": "lists or objects more than 100 deep within each other",
    "tokenizer_config_lists": "the key 'never_split' (value [[[]]]) is not understood",
    "generation_config_deep": "lists or objects more than 100 deep",
    "generation_config_end": "eos_token_id is ['xxxx",
    "chat_template_list": "expected a text, or a list of objects with a name and a template",
    "chat_template_loops": "it makes or reads more than 67108864 characters",
    "chat_template_doubles": "it makes or reads more than 67108864 characters",
    "chat_template_class": "access to attribute '__class__' of 'str' object is unsafe",
    "chat_template_pipe": "expected a file, and it is a directory, a pipe",
    "tokenizer_config_pipe": "expected a file, and it is a directory, a pipe",
    "chat_template_long": "it has more than 131072 characters",
    "tokenizer_config_class": "tokenizer_class is 0.5; expected a name",
    "tokenizer_config_long_key": "is not understood, and may change ids",
    "added_tokens_too_many": "its files add 200000 tokens; expected at most 65536",
    "added_tokens_deep": "lists or objects more than 100 deep within each other",
    "added_tokens_of_all_lengths": "have 700 lengths, 738150 characters",
    "added_tokens_huge_id": (
        "<a> is 4611686018427387904; expected a whole number from 0 to 16777215"
    ),
    "added_tokens_surrogate": "half of a character, such as \\ud800 alone",
    "special_tokens_wide": "a JSON text with 4000003 items in 6000010 bytes",
    "vocab_pipe": "expected a file, and it is a directory, a pipe or a device",
    "vocab_device": "expected a file, and it is a directory, a pipe or a device",
    "vocab_short_lines": "holds 1000000 lines in 5930096 bytes, which is too many",
    "vocab_empty_lines": "holds 5000003 lines in 5000019 bytes, which is too many",
    "sentencepiece_pipe": "expected a file, and it is a directory, a pipe or a device",
    "sentencepiece_zeros": "is not a sentencepiece model",
    "sentencepiece_group": (
        "is not a sentencepiece model (wire type 3 in a protocol buffer). Get or copy"
    ),
    "sentencepiece_long_replacement": "the text that replaces a character has more than 256 bytes",
    "sentencepiece_long_replacement_decoding": (
        "the text that replaces a character has more than 256"
    ),
    "sentencepiece_long_unknown": "the text of the unknown piece has more than 256 bytes; expected",
    "sentencepiece_too_many_pieces": (
        "has more than 347272 pieces and settings; expected at most so"
    ),
    "sentencepiece_symbols": "pieces and settings; expected at most so many in 9000",
    "sentencepiece_wide_tag": "is not a sentencepiece model (field 536870915 in a protocol buffer)",
    "sentencepiece_no_text": "expected pieces in UTF-8, got b'a\\xff'. Get or copy the file again",
    "extra_ids_too_many": "extra_ids is 1000000000; expected a whole number from 0 to 65536",
    "extra_ids_negative": "extra_ids is -5; expected a whole number from 0 to 65536",
    "byte_bpe_too_many_merges": "merges or more, and a vocabulary of 130256 tokens; expected fewer",
    "tokenizer_json_too_many_merges": "merges or more, and a vocabulary of 130256 tokens; expected",
    "byte_bpe_long_line": "line 1: expected two symbols, got 'ab ab ",
    "byte_bpe_deep": "lists or objects more than 100 deep within each other",
    "byte_bpe_binary_merges": "expected text in UTF-8, got invalid start byte at byte 0",
    "shard_of_a_longer_row": "a record of 524288 tokens; expected 131072",
    "shard_of_empty_lists": "a field of a tf.train.Example is there twice",
    "shard_of_pieces": "a field of a tf.train.Example is there twice",
    "corpus_brackets": "byte 31: expected a JSON object with the key 'text'",
    "corpus_wide": (
        "byte 0: expected a JSON object with the key 'text' (ValueError: a JSON text with"
    ),
    "corpus_packed_line": "bytes or more, which would take far more memory than the file",
    "corpus_packed_json": "bytes or more, which would take far more memory than the file",
    "corpus_packed_document": "lines, which would take far more memory than the file",
    "corpus_packed_lines": "bytes, unpacked, in 183",
    "corpus_zstd_lines": "bytes, unpacked, in 6",
    "corpus_zstd_line": "bytes or more, which would take far more memory than the file",
    "log_many_columns": "the line after it has 1000001 values; expected at most 1000",
    "recipe_references": "a reference (*) to another value, of which settings have none",
    "recipe_deep": "it is nested too deeply",
    "recipe_code": "could not determine a constructor for the tag",
    "recipe_date": "month must be in 1..12",
    "recipe_huge_number": "expected float",
    "recipe_long_number": "seed=<an integer of 400000 bits>: expected finite numbers, integers",
    "recipe_long_number_within": "masking=<an integer of 400000 bits>: expected finite numbers",
    "recipe_long_name": "expected names of settings, got <an integer of 400000 bits>",
    "recipe_infinity": "learning_rate=inf: expected finite numbers",
    "recipe_sexagesimal": "the number '1:59:59:59",
    "recipe_minutes": (
        "the number '1:30', which may be read in two ways; write it in decimal digits"
    ),
    "recipe_octal": "the number '017', which may be read in two ways; write it in decimal digits",
    "recipe_null": "output='a\\x00b': expected a text without null or lone surrogate",
    "recipe_surrogate": "output='a\\ud800b': expected a text without null or lone surrogate",
    "recipe_long": "has 900000 bytes; expected settings, at most 131072",
    "recipe_of_short_values": "has 220029 bytes; expected settings, at most 131072",
    "recipe_of_key_marks": "expected YAML, but more than 65536 keys and values",
    "recipe_pipe": "no such file, and none of the recipes: bert4keras_lamb, bert_base_zh,",
}

# of configs, tokenizers, corpora and recipes
VALUE_ERRORS = (
    "generation_config",
    *("config", "tokenizer", "added", "special", "vocab", "sentencepiece", "byte_bpe"),
    *("extra", "corpus", "log", "recipe", "shard_", "sentences", "chat_template"),
)

# cases by what their names begin with: one run of the script each
GROUPS = [
    *(("hdf5", "keras"), ("torch_f", "torch_i", "torch_m"), ("torch",)),
    *(("zip", "npz", "tf"), ("shards",), ("sentencepiece_of",)),
    *(("tokenizer", "added", "special", "vocab", "byte_bpe", "sentencepiece", "extra"),),
    *(("corpus", "log", "texts", "shard_", "pairs"),),
    *(("config", "recipe"), ("",)),
]


def group_of(name):
    return next(i for i, starts in enumerate(GROUPS) if name.startswith(starts))


@cache
def outcomes(group, folder):
    """Name -> what came of it, of one run of the script for all processes of the tests."""
    path = folder / f"hostile-{group}.jsonl"
    with open(f"{path}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            names = [name for name in (*OPENED, *REFUSED) if group_of(name) == group]
            command = [sys.executable, str(ROOT / "tests" / "hostile.py"), *names]
            environment = os.environ | {"PYTHONPATH": str(ROOT)}
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
            assert done.returncode == 0, done.stderr[-3000:]
            path.write_text(done.stdout)
    return {row["name"]: row for row in map(json.loads, path.read_text().splitlines())}


@pytest.fixture
def told(request, tmp_path_factory):
    """What came of the case that a test is about."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    name = request.node.callspec.params["name"]
    row = outcomes(group_of(name), folder)[name]
    assert row["status"] == 0 and row["outcome"] != "died"
    assert row["grew"] <= MEMORY + TIMES * row["size"]
    assert row["seconds"] <= CPU_SECONDS or row["size"] > 5_000_000  # with those of its children
    return row


@pytest.mark.parametrize("name", OPENED)
def test_harmless_files_are_read(told, name):
    assert (told["outcome"], told["message"]) == ("opened", OPENED[name])


@pytest.mark.parametrize("name", REFUSED)
def test_others_are_refused(told, name):
    kind = "ValueError" if name.startswith(VALUE_ERRORS) else "CheckpointError"
    assert told["outcome"] == kind
    assert REFUSED[name] in told["message"]
    folder = str(Path(told["path"]).parent)
    assert folder in told["message"] or name == "name_with_null"
    assert len(told["message"].replace(folder, "")) < 900  # what is repeated is cut


def test_every_case_is_told_here():
    tree = ast.parse((ROOT / "tests" / "hostile.py").read_text(encoding="utf-8"))
    cases = {
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef)
        and any(getattr(d, "func", None) and d.func.id == "case" for d in node.decorator_list)
    }
    assert cases == OPENED.keys() | REFUSED.keys()


def test_json_lines_of_data_sets(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "a"}\n' + b"[" * 200_000)
    with pytest.raises(ValueError, match=r"line 2: expected JSON .*more than 100 deep") as error:
        read_json_lines(path)
    assert len(str(error.value)) < 500
    path.write_bytes(b'{"text": "a\\ud800b"}\n{"text": "\\ud834\\udd1e"}')
    texts = read_json_lines(path, lambda row: row["text"])
    assert texts == ["a?b", "𝄞"]
    "".join(texts).encode()


CHILD = ROOT / "bert4keras_lite" / "checkpoints" / "hdf5_child.py"


def limited(code):
    """What a process does that has the limits of the one that reads HDF5."""
    start = f"import sys; sys.path.insert(0, {str(CHILD.parent)!r}); import hdf5_child as c; "
    start += "c.limit(64 << 20, 1); "
    return subprocess.run([sys.executable, "-I", "-c", start + code], capture_output=True)


@pytest.fixture
def chunked(tmp_path):
    """An HDF5 file with two datasets, neither of them in one piece."""
    path = tmp_path / "m.weights.h5"
    with h5py.File(path, "w") as file:
        for i, name in enumerate("ab"):
            file.create_dataset(name, data=np.full(1000, i, "i1"), chunks=(100,))
    return path


@pytest.fixture
def started(monkeypatch):
    """The child processes that read HDF5, as they are started."""
    started, popen = [], subprocess.Popen

    def start(*args, **options):
        started.append(popen(*args, **options))
        return started[-1]

    monkeypatch.setattr(hdf5.subprocess, "Popen", start)
    return started


def test_hdf5_process_reads_in_any_order(chunked, started):
    """One for a file that is read once, and another for who reads on; none is left."""
    checkpoint = open_checkpoint(chunked)
    assert checkpoint["b"].tolist() == [1] * 1000 and started[0].poll() is None
    assert checkpoint["a"].tolist() == [0] * 1000 and started[0].returncode is not None
    assert len(started) == 1
    assert checkpoint["a"].sum() == 0 and len(started) == 2
    assert checkpoint["a"].sum() == 0 and len(started) == 3
    assert started[1].returncode is not None
    del checkpoint
    assert all(process.returncode is not None for process in started)


def test_hdf5_process_that_ended_stays_so(chunked, started):
    """Else each dataset of a damaged file would have seconds of its own."""
    checkpoint = open_checkpoint(chunked)
    started[0].kill()
    for name in "aba":
        with pytest.raises(
            CheckpointError, match="reading it crashed or overtaxed the HDF5 library"
        ):
            checkpoint[name]
    assert len(started) == 1


def test_hdf5_of_forks(chunked, started):
    """A fork has a process of its own: two cannot share the answers of one."""
    checkpoint = open_checkpoint(chunked)
    child = os.fork()
    if child == 0:
        os._exit(0 if checkpoint["b"].tolist() == [1] * 1000 and len(started) == 2 else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert started[0].poll() is None and checkpoint["b"].tolist() == [1] * 1000


def test_hdf5_answer_that_was_not_waited_for(chunked, monkeypatch):
    """The rest of it is not taken for the next."""
    checkpoint = open_checkpoint(chunked)
    ask = hdf5._Child.ask

    def interrupted(child, request):
        child.send(request)
        raise KeyboardInterrupt

    monkeypatch.setattr(hdf5._Child, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        checkpoint["a"]
    monkeypatch.setattr(hdf5._Child, "ask", ask)
    assert checkpoint["b"].tolist() == [1] * 1000


def test_hdf5_library_is_found_where_it_is_here(chunked, tmp_path, monkeypatch):
    """By `PYTHONPATH`, for one; and where it is not found, the file is not called damaged."""
    (tmp_path / "h5py.py").write_text("raise ImportError('no such library')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    said = "h5py, which reads it, cannot be imported: no such library. Install h5py"
    with pytest.raises(CheckpointError, match=said):
        open_checkpoint(chunked)


def test_hdf5_child_is_limited():
    assert limited("bytes(32 << 20)").returncode == 0
    assert b"MemoryError" in limited("bytes(80 << 20)").stderr
    assert limited("\nwhile True: pass").returncode < 0
