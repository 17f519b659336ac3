"""One optimizer a file: `build(weights, others)`; only `weights` decay; `lr` is set before every step."""
