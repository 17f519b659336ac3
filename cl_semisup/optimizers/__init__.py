"""One optimizer a file: `build(weights, others)`; weight decay is for `weights` alone; `lr` is set before every step."""
