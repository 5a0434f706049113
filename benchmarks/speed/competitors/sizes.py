"""The matrix product's sizes, apart from JAX."""

PRODUCT = (4096, 768, 3072)  # m, k, n: the first layer of ViT-B's MLP on all its tokens
PRODUCT_FLOPS = 2.0 * PRODUCT[0] * PRODUCT[1] * PRODUCT[2]
