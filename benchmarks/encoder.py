"""The encoder and the head without videos: milliseconds a clip, error, and how near that is to what the GPU can do.

python -m benchmarks.encoder --model random-vitl --json encoder.json
"""

import argparse
from collections.abc import Callable

import torch
from torch.nn import functional as F

from benchmarks import common
from vjepa_mlflow.features import LabelledFeatures
from vjepa_mlflow.model import Backbone, Head, autocast, head_forms, matmul_precision, use_device
from vjepa_mlflow.model.attention import fused_attention
from vjepa_mlflow.recipe import PRECISIONS
from vjepa_mlflow.training.adam import Adam
from vjepa_mlflow.training.gradient import AccumulatedGradient, HeadPasses

REPEATS = 8
ERROR_CLIPS = 8


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny", help=f"a checkpoint, or {common.RANDOM_VITL}")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    parser.add_argument("--batch-size", nargs="+", type=int, default=[1, 16, 24])
    parser.add_argument("--window", nargs="+", type=int, default=[1, 4, 16])
    parser.add_argument("--json")
    options = parser.parse_args()

    device = use_device(options.device)
    model, _ = common.load(common.find_checkpoint(options.model), ["a", "b", "c", "d"], device)
    results: dict[str, object] = {"machine": common.machine(device), "model": options.model}
    print(results, flush=True)
    results["encoder"] = list(encoders(model, options.precision, options.batch_size))
    results["ceiling_ms"] = ceiling(model, max(options.batch_size)) if device.type == "cuda" else None
    print("floor of bf16 on this GPU, ms a clip:", results["ceiling_ms"], flush=True)
    results["head"] = list(heads(model, options.precision, options.window))
    common.write_json(options.json, results)


def milliseconds(action: Callable[[], object], *, clips: int) -> float:
    """Per clip, the mean of several calls after two that do not count."""
    for _ in range(2):
        action()
    return common.seconds(lambda: [action() for _ in range(REPEATS)]) * 1e3 / REPEATS / clips


def encoders(model, precisions, batch_sizes):
    """Ours and transformers' encoder, each in every precision and batch size."""
    config = model.config
    shape = (config.frames_per_clip, config.in_chans, config.crop_size, config.crop_size)
    pixels = torch.randn(max(batch_sizes), *shape, device=model.device)
    exact = pixels[:ERROR_CLIPS]
    with matmul_precision("fp32"), torch.no_grad():
        expected = model.vjepa2(pixel_values_videos=exact, skip_predictor=True).last_hidden_state
    for precision in precisions:

        @torch.no_grad()
        def transformers(clips, precision=precision):
            with autocast(model.device, precision):
                return model.vjepa2(pixel_values_videos=clips, skip_predictor=True).last_hidden_state

        with matmul_precision(precision):
            ours = Backbone.of(model, precision=precision)
            for name, encode in (("ours", ours), ("transformers", transformers)):
                error = float((encode(exact).float() - expected).norm() / expected.norm())
                for size in batch_sizes:
                    took = milliseconds(lambda: encode(pixels[:size]), clips=size)  # noqa: B023
                    form = ours.form if name == "ours" else "transformers"
                    row = {
                        "encoder": name,
                        "form": form,
                        "precision": precision,
                        "batch": size,
                        "ms": took,
                        "error": error,
                    }
                    print(row, flush=True)
                    yield row


def ceiling(model, clips: int) -> dict[str, float]:
    """What the products and the attention of one clip take by themselves in bf16, at their measured speeds."""
    config, device = model.config, model.device
    size, layers = config.hidden_size, config.num_hidden_layers
    tokens = model.vjepa2.encoder.embeddings.num_patches(config)
    total = 0.0
    for outputs, inputs in ((3 * size, size), (size, size), (4 * size, size), (size, 4 * size)):
        left = torch.randn(clips * tokens, inputs, device=device, dtype=torch.bfloat16)
        right = torch.randn(outputs, inputs, device=device, dtype=torch.bfloat16)
        total += layers * milliseconds(lambda: F.linear(left, right), clips=clips)  # noqa: B023
    heads = config.num_attention_heads
    query = torch.randn(clips, heads, tokens, size // heads, device=device, dtype=torch.bfloat16)
    attention = layers * milliseconds(lambda: fused_attention(query, query, query), clips=clips)
    return {"products": total, "attention": attention, "both": total + attention}


def heads(model, precisions, windows):
    """One optimizer step of the head on features that are on the device, feeding and Adam included."""
    head = Head.of(model)
    shape = (model.vjepa2.encoder.embeddings.num_patches(model.config), model.config.hidden_size)
    for precision in precisions:
        dtype = torch.bfloat16 if precision == "bf16" else torch.float32
        clips = [
            LabelledFeatures(torch.randn(shape, device=model.device).to(dtype), index % 4)
            for index in range(max(windows))
        ]
        for window in windows:
            with matmul_precision(precision):
                passes = HeadPasses(head, precision=precision, form=head_forms(head)[0])
                weights = torch.ones(4, device=model.device)
                gradient = AccumulatedGradient(passes, clips_per_step=window, class_weights=weights)
                optimizer = Adam(head.parameters())

                def step() -> None:
                    gradient.compute(clips[:window])  # noqa: B023
                    optimizer.step(1e-5)  # noqa: B023

                row = {"precision": precision, "window": window, "ms": milliseconds(step, clips=window)}
            print(row, flush=True)
            yield row


if __name__ == "__main__":
    main()
