"""A probe's defaults are part of protocols: whoever changes one changes what old tables mean."""

from dataclasses import MISSING, fields

from cl_semisup import plugins

DEFAULTS = {
    "calibration": {"bins": 15},
    "cka": {"images": 2000},
    "corruptions": {},
    "finetune": {
        "epochs": 30,
        "batch_size": 64,
        "weight_decay": 0.01,
        "scratch": True,
        "head": False,
        "last": False,
        "lora": 0,
    },
    "geometry": {},
    "increments": {"head": "nearest_mean", "width": 1000},
    "kmeans": {"starts": 10, "layer": "features"},
    "knn": {"k": 200, "temperature": 0.1, "layer": "features"},
    "knn_curve": {"temperature": 0.07},
    "knn_presets": {},
    "lidar": {"views": 10, "images": 1000, "delta": 0.0001},
    "linear": {"validation": 0.2, "max_iterations": 1000, "layer": "features"},
    "linear_augmented": {"epochs": 20, "batch_size": 256, "weight_decay": 1e-06},
    "linear_layers": {"blocks": 4},
    "linear_sgd": {"epochs": 100, "batch_size": 256, "weight_decay": 1e-06},
    "loranpac": {"width": 2000, "truncation": 0.25, "images": 10000},
    "nearest_mean": {"layer": "features"},
    "neural_collapse": {"layer": "features"},
    "per_class": {},
    "perturbation": {},
    "prototypes": {},
    "quantisation": {},
    "retrieval": {"layer": "features"},
    "ridge": {"layer": "features"},
    "shifted_test": {},
    "simclr12": {
        "datasets": (
            "food101",
            "cifar10",
            "cifar100",
            "birdsnap",
            "sun397",
            "stanford_cars",
            "fgvc_aircraft",
            "voc2007",
            "dtd",
            "oxford_pets",
            "caltech101",
            "flowers102",
        ),
        "images": 100000,
    },
    "similarity": {"images": 100},
    "spectrum": {"images": 25600, "pairs_of": 1000, "layer": "both"},
    "transfer": {"images": 10000},
    "update_similarity": {"images": 200, "labelled": 500, "temperature": 0.1},
}


def test_defaults_of_probes_are_those_that_records_were_made_with() -> None:
    found = {}
    for name in plugins.names("evaluation"):
        probe = plugins.load("evaluation", name)
        found[name] = {field.name: field.default for field in fields(probe) if field.default is not MISSING}
    assert found == DEFAULTS
