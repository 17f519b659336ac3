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
    "36ea21b0f5": "99e0db05a5",  # convnet: `norm`; batch norm is what it was, module for module
    "510ef4c4ef": "b5e6be227a",  # resnet18: `norm`; batch norm is what it was, module for module
    "438028034f": "b914e6ac36",  # arrays: more kinds of damage are refused in words
    "78e5470917": "f3cc4ab4db",  # birdsnap: more kinds of damage are refused in words
    "edf5198742": "bef562a5f1",  # caltech101: more kinds of damage are refused in words
    "6ff339a41b": "363c6034f5",  # cifar10: more kinds of damage are refused in words
    "6534c90ed8": "cb63172419",  # cifar100: more kinds of damage are refused in words
    "b5ba2a58e0": "b56a159730",  # cifar100_coarse: more kinds of damage are refused in words
    "d99661c08a": "0fe6a53078",  # cifar_c: more kinds of damage are refused in words
    "58780b1555": "e5e3d1c53d",  # dtd: more kinds of damage are refused in words
    "cb66cc64b5": "3b4d079163",  # fashion_mnist: more kinds of damage are refused in words
    "a21a998117": "db5238e7d4",  # features: more kinds of damage are refused in words
    "7010846c3f": "aa460f606a",  # fgvc_aircraft: more kinds of damage are refused in words
    "f6c76553ca": "1aebcda766",  # flowers102: more kinds of damage are refused in words
    "942902da30": "40b6bda809",  # food101: more kinds of damage are refused in words
    "4c87b6d51a": "971a0093f6",  # huggingface: more kinds of damage are refused in words
    "288cb12606": "5724884ee2",  # image_folder: more kinds of damage are refused in words
    "ddbdd7d301": "220d010776",  # image_table: more kinds of damage are refused in words
    "5f436c6590": "0f24bb17d3",  # medmnist: more kinds of damage are refused in words
    "65ef0de4b6": "bb524c4032",  # mnist: more kinds of damage are refused in words
    "de76dc22fc": "95b4734cea",  # oxford_pets: more kinds of damage are refused in words
    "885939ff76": "1ae70f3c0a",  # stanford_cars: more kinds of damage are refused in words
    "cf499b3b5c": "63322448b0",  # stl10: more kinds of damage are refused in words
    "2433158cf5": "0ffd80b97c",  # sun397: more kinds of damage are refused in words
    "44e30108a2": "66e2f9e5a7",  # svhn: more kinds of damage are refused in words
    "16fad3b0af": "235d0128e6",  # tiny_imagenet: more kinds of damage are refused in words
    "072fb92027": "cad690a1cf",  # voc2007: more kinds of damage are refused in words
    "8412c9ad8d": "936895e949",  # webdataset: more kinds of damage are refused in words
}
