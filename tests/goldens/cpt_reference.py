"""The authors' classes of CPT, under transformers 5: `modeling_cpt.py` of fastnlp/CPT.

It is of the time of transformers 4.4; nothing that it computes is changed. Put `finetune` of a
checkout on the path: `PYTHONPATH=CPT/finetune`.

Their `forward` gives each token of a source segment 1, as their pretraining does; their `generate`
calls the encoder itself, without segments, which means segment 0. `reference` has both.
"""

import sys
from types import ModuleType

__all__ = ["reference"]


def reference(name, segment=1):
    """Returns a class of transformers, or of `modeling_cpt.py`, by name.

    Args:
        name: of the class, such as `CPTForConditionalGeneration`.
        segment: of all tokens of a source in `generate`; 0: as the authors have it.
    """
    import torch
    import transformers
    from transformers import GenerationMixin, utils

    if not name.startswith("CPT"):
        return getattr(transformers, name)
    old = ModuleType("transformers.file_utils")
    # decorators of docstrings, some of which are gone, or have other arguments now
    decorators = [name for name in vars(utils) if "docstring" in name]
    vars(old).update(dict.fromkeys(decorators, lambda *_, **__: lambda function: function))
    sys.modules.setdefault(old.__name__, old)
    import modeling_cpt

    base = getattr(modeling_cpt, name)
    modeling_cpt.CPTPretrainedModel.init_weights = lambda self: None  # all are loaded
    prefix = "" if name == "CPTModel" else "model."
    copies = ["encoder.embeddings.word_embeddings", "decoder.embed_tokens"]
    tied = {f"{prefix}{copy}.weight": f"{prefix}shared.weight" for copy in copies}

    class Reference(base, GenerationMixin):
        _tied_weights_keys = tied | ({"lm_head.weight": "model.shared.weight"} if prefix else {})

        def __init__(self, config):
            super().__init__(config)
            self.post_init()

        def get_encoder(self, modality=None):
            encoder = super().get_encoder()

            class Encoder(torch.nn.Module):
                def forward(self, input_ids, **kwargs):
                    segments = torch.full_like(input_ids, segment)
                    return encoder(input_ids=input_ids, token_type_ids=segments, **kwargs)

            return Encoder()

    assert transformers.__version__.startswith("5."), transformers.__version__
    return Reference
