"""What a saved model's folder holds. It is self-contained:

    MLmodel            signature, format version, sampling, digests of the weights, configuration of serving
    README.md          the model card, where there is one
    checkpoint/        a plain transformers folder: config.json, video_preprocessor_config.json, and weights in two
                       files with an index: the backbone's are those of the checkpoint that it was trained from;
                       with seen_videos.json: digests of what it was trained, validated and tested on
    code/              this package, in two files, so that the model serves where it is not installed
    requirements.txt   the exact versions that saved it

`VJEPA2ForVideoClassification.from_pretrained` and `VJEPA2VideoProcessor.from_pretrained` read `checkpoint/` as it is.
"""

FLAVOR_NAME = "vjepa_mlflow"
FORMAT_VERSION = 6
"""A package reads every version up to its own. 2: with a `ServingConfig`. 3: with what the model has seen. 4: with
`frames_per_second`. 5: with `weights_sha256`, the digest of `model.safetensors`, the file of all weights. 6: with the
head's weights in a file of their own, and a digest for each file."""

LOADER_MODULE = "vjepa_mlflow.flavor"
"""Where `mlflow.pyfunc` looks for `_load_pyfunc`: it stands in every saved model, and so is permanent."""

RUNS_SCHEME = "runs:/"
URI_SCHEMES = ("models:/", RUNS_SCHEME)
"""What the address of a logged model begins with."""

CHECKPOINT_FOLDER = "checkpoint"
MODEL_CARD = "README.md"
