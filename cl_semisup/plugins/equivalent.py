"""Versions of plug-ins that give the same scores as older ones, so that records of these stay current."""

# New version -> older version. A test must show that results are equal; where a score could change, records must become
# stale instead.
EQUIVALENT_VERSIONS: dict[str, str] = {
    "f97a364095": "fca70c3124",  # multi_crop: takes larger images; from others its crops are what they were, to the bit
    "50107bfe0b": "4b6da15664",  # dino, swav and paws take local views; without any they are what they were, to the bit
    "343c1f3930": "153b5313f6",
    "14bcb0569a": "d7a68ba327",
    "21cb04c852": "17700af8fa",  # w_mse, label_redraw: float64 on the CPU for MPS; on a CPU and on CUDA nothing changes
    "14598a0792": "6a3fc95297",
    "85c2e64f6a": "66c3fc22e8",  # flexmatch, freematch: the same counts without a wait for the GPU
    "d9f9f6fc94": "6e862f41a8",
    "fbb0b293f4": "86c64b04e1",  # evaluation/corruptions.py: says that it needs images
    "81b4ab646e": "33f5d37cc2",  # evaluation.transfer: its conversion of images moved to data/formats.py
    "4485bb8f0d": "363c6034f5",  # cifar10: more kinds of damage are refused in words
    "0b8ef34fe2": "cb63172419",  # cifar100: more kinds of damage are refused in words
    "b6eb996ebd": "3b4d079163",  # fashion_mnist: more kinds of damage are refused in words
    "4d1672ed50": "bb524c4032",  # mnist: more kinds of damage are refused in words
    "ea0c3736d1": "63322448b0",  # stl10: more kinds of damage are refused in words
    "3cedee046a": "db5238e7d4",  # features: more kinds of damage are refused in words
    "ec9b3c8ba8": "66e2f9e5a7",  # svhn: more kinds of damage are refused in words
    "36ea21b0f5": "99e0db05a5",  # convnet: `norm`; batch norm is what it was, module for module
    "510ef4c4ef": "b5e6be227a",  # resnet18: `norm`; batch norm is what it was, module for module
}
