"""Versions of plug-ins that give the same scores as older ones, so that records of these stay current."""

# Version of today's code -> the version that records hold. A test must show that results are equal; where a score could
# change, records must become stale instead. When the code changes again, its entry gets the new version.
EQUIVALENT_VERSIONS: dict[str, str] = {
    "9d2705f644": "85e65c4a4f",  # timm: `normalize`; at its default nothing changes
    "602917d9ca": "d8eec56654",  # torchvision: `normalize`; at its default nothing changes
    "358296c832": "b6622facf0",  # checkpoint: `normalize`; at its default nothing changes
    "f97a364095": "fca70c3124",  # multi_crop: takes larger images; from others its crops are what they were, to the bit
    "343c1f3930": "153b5313f6",  # swav: takes local views; without any it is what it was, to the bit
    "14bcb0569a": "d7a68ba327",  # paws: takes local views; without any it is what it was, to the bit
    "21cb04c852": "17700af8fa",  # w_mse: float64 on the CPU for MPS; on a CPU and on CUDA nothing changes
    "83b525ee3f": "6a3fc95297",  # label_redraw: float64 on the CPU for MPS; on a CPU and on CUDA nothing changes
    "85c2e64f6a": "66c3fc22e8",  # flexmatch: the same counts without a wait for the GPU
    "d9f9f6fc94": "6e862f41a8",  # freematch: the same counts without a wait for the GPU
    "f7836e33d4": "86c64b04e1",  # corruptions: says that it needs images
    "1e6b9dbef6": "33f5d37cc2",  # transfer: its conversion of images moved to data/formats.py
    "36ea21b0f5": "99e0db05a5",  # convnet: `norm`; batch norm is what it was, module for module
    "510ef4c4ef": "b5e6be227a",  # resnet18: `norm`; batch norm is what it was, module for module
    "19ef77e59a": "4b6da15664",  # dino: a step can be a CUDA graph
    "14fd18636b": "b59822e24b",  # mean_teacher: a step can be a CUDA graph
    "6984621493": "971140ceab",  # lejepa: a step can be a CUDA graph
    "2c35ac9461": "931944d191",  # lars: `clip`; without it the arithmetic is the one it was
    "e1012d06b7": "073b1e8cad",  # nonl: without masks; of labelled images the same, to the bit
    "eeb4a868e1": "4e32c4eb2c",  # normface: without masks; of labelled images the same, to the bit
    "5a91430a17": "ede36a920f",  # ntce: without masks; of labelled images the same, to the bit
    "3d014f307e": "e198f5b2ee",  # vrn: without masks; of labelled images the same, to the bit
    "c878f5059c": "bb2580c858",  # knn: say which images are right; the same scores
    "2c34f356ea": "a5e66b9c12",  # linear: say which images are right; the same scores
    "59fddea50a": "823918b02d",  # simclr12: more layouts are told in words, pixels and labels stay
    "fa2e16cb38": "55a1cb85de",  # finetune: no score of a single label, where batch norm failed; else to the bit
    "82da5f543b": "895cc35319",  # clop: `simplex_etf` has the same corners on all machines; other kinds are the same
    "54c828e7f8": "bb37e8478a",  # arrays: more layouts and errors are told in words, pixels and labels stay
    "ab966abf29": "5e52fb8caa",  # birdsnap: more layouts and errors are told in words, pixels and labels stay
    "6ce5c7659c": "c3b341cec4",  # caltech101: more layouts and errors are told in words, pixels and labels stay
    "9f28f8d97d": "363c6034f5",  # cifar10: more layouts and errors are told in words, pixels and labels stay
    "f83caf9fcb": "cb63172419",  # cifar100: more layouts and errors are told in words, pixels and labels stay
    "baa6002e85": "b56a159730",  # cifar100_coarse: more layouts and errors are told in words, pixels and labels stay
    "432f7799ae": "0fe6a53078",  # cifar_c: more layouts and errors are told in words, pixels and labels stay
    "3191706544": "acbcb78a0f",  # dtd: more layouts and errors are told in words, pixels and labels stay
    "2b199d100f": "3b4d079163",  # fashion_mnist: more layouts and errors are told in words, pixels and labels stay
    "a51b3eaf58": "db5238e7d4",  # features: more layouts and errors are told in words, pixels and labels stay
    "db0552c189": "1bdaa2c6ed",  # fgvc_aircraft: more layouts and errors are told in words, pixels and labels stay
    "321f4603db": "de958d2e6e",  # flowers102: more layouts and errors are told in words, pixels and labels stay
    "d1c9d7750a": "f62fddab1d",  # food101: more layouts and errors are told in words, pixels and labels stay
    "2b38820629": "267c2a9a95",  # huggingface: more layouts and errors are told in words, pixels and labels stay
    "e88588dabe": "a51c9d6ddc",  # image_folder: more layouts and errors are told in words, pixels and labels stay
    "256ba76775": "baaac65b6f",  # image_table: more layouts and errors are told in words, pixels and labels stay
    "604147de00": "769168cbf0",  # medmnist: more layouts and errors are told in words, pixels and labels stay
    "288c75865a": "bb524c4032",  # mnist: more layouts and errors are told in words, pixels and labels stay
    "18cc62814d": "de6c6c4d8d",  # oxford_pets: more layouts and errors are told in words, pixels and labels stay
    "66810a2d92": "0af528f74b",  # stanford_cars: more layouts and errors are told in words, pixels and labels stay
    "28265d24d2": "63322448b0",  # stl10: more layouts and errors are told in words, pixels and labels stay
    "7af73aa8b9": "9d4dfb90b8",  # sun397: more layouts and errors are told in words, pixels and labels stay
    "c15a4d1444": "66e2f9e5a7",  # svhn: more layouts and errors are told in words, pixels and labels stay
    "49f88d00c7": "f87dcc80a8",  # tiny_imagenet: more layouts and errors are told in words, pixels and labels stay
    "897120cb3d": "a8936a91cb",  # voc2007: more layouts and errors are told in words, pixels and labels stay
    "f6e7994e20": "5d3fe04dd7",  # webdataset: more layouts and errors are told in words, pixels and labels stay
    "da50936fee": "e0c9188ed3",  # layer_causal: its text says that it is; the steps are the same
    "f7f34d9113": "3e0a5d22c9",  # digits: read without importing scikit-learn, pixels, labels and split stay
    "1fea34b7d8": "e381c33da0",  # glyphs: inherits what all computed data sets do, images and labels stay
    "29f44e74c4": "8b4b3dd23a",  # subspaces: inherits what all computed data sets do, images and labels stay
    "349bd9864e": "bd2c443590",  # kmeans: seeds are called `rng_seed`, not `name`
    "62a7abbf74": "6e1241f240",  # perturbation: seeds are called `rng_seed`, not `name`
    "86693045f9": "6cb26d30da",  # adversarial_distribution: noise is drawn on the host
    "f36b6d3d08": "a60b487790",  # asymmetric_adversarial: noise is drawn on the host
    "122c917644": "63575f56f0",  # crop_and_color: draws are sent to a GPU from pinned memory
    "cfbaf3510e": "0c431f7842",  # feature_noise: noise is sent to a GPU from pinned memory
    "b02863744e": "2c2c7fdb4e",  # neighbour_mixup: rows are sent to a GPU from pinned memory
    "d8668018ad": "0468364506",  # randaugment: choices are sent to a GPU from pinned memory
    "3406f78d77": "0e7a1a11d0",  # stored_view: rows are sent to a GPU from pinned memory
    "cc93dde191": "816d49b439",  # increments: tiny features count; where a spread reaches 0.001, to the bit
    "66f778509f": "1af4707f3a",  # linear_sgd: tiny features count; where a spread reaches 0.001, to the bit
    "c0b386d6a7": "816ddaf25c",  # loranpac: tiny features count; where a spread reaches 0.001, to the bit
    "71c87c2d71": "9ce8660520",  # ridge: tiny features count; where a spread reaches 0.001, to the bit
    "18f818bd65": "6eb6d3364a",  # linear_augmented: tiny features count; where a spread reaches 0.001, to the bit
    "7cc9491747": "ce4b72810f",  # neural_collapse: class separation of close rows; of others its digits stay
}
