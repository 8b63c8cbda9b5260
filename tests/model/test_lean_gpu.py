import subprocess
import sys

import pytest
import torch
from helpers import environment

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")]

ATTEND = """
some = torch.zeros(1, 1, 8, 64, dtype=torch.float16, device="cuda")
torch.nn.functional.scaled_dot_product_attention(some, some, some)
"""
ENCODE = """
from transformers import VJEPA2Config, VJEPA2ForVideoClassification
from vjepa_mlflow.model import EAGER, Backbone

sizes = {"hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 1, "pred_num_hidden_layers": 1}
model = VJEPA2ForVideoClassification(VJEPA2Config(crop_size=32, frames_per_clip=4, **sizes)).to("cuda")
Backbone.of(model, precision="bf16", form=EAGER)(torch.zeros(1, 4, 3, 32, 32, device="cuda"))
"""


def test_a_process_that_has_encoded_computes_its_heads_with_the_kernels_of_any_other() -> None:
    """PyTorch orders its attention kernels by the GPU when a process first uses one."""
    program = "import torch\n{}\nprint(torch._C._get_sdp_priority_order())"
    begun = [
        subprocess.Popen([sys.executable, "-c", program.format(body)], env=environment(), stdout=subprocess.PIPE)
        for body in (ATTEND, ENCODE)
    ]
    plain, encoded = (process.communicate()[0] for process in begun)
    assert encoded == plain
    assert plain.startswith(b"[")
