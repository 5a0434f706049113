"""samjax compiled for GPUs and TPUs on a machine that has none.

    pip install --no-deps jax-cuda12-plugin==$JAX jax-cuda12-pjrt==$JAX nvidia-cuda-nvcc-cu12
    pip install --no-deps libtpu==...   # of `pip install jax[tpu]==$JAX --dry-run`
    python -m benchmarks.gpu_compile --card t4 h100 --model vit_b

JAX compiles for a described device (a topology without hardware): XLA's passes, its fusions and the
machine code are those of the card. Nothing runs, so nothing is measured on a card: every
millisecond here is an estimate, kernel by kernel the larger of its operations at the card's usual
rate and its bytes at the card's usual bandwidth (a roofline). No product is autotuned, which needs
the card: they are counted as calls of cuBLAS.
"""
