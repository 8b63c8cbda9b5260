"""Makes the tiny checkpoint: `python -m tools.pretrain_tiny`, on a CUDA GPU, from generated films alone."""
