"""One encoder a file: `build(channels, side)` gives a module (N, channels, side, side) -> (N, dim) that knows `dim`."""
