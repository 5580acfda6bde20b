"""Small CIFAR archives in the standard python layout, for tests of what reads them."""

import pickle

import numpy as np

FOLDERS = {"cifar10": "cifar-10-batches-py", "cifar100": "cifar-100-python"}


def write_cifar(root, name, per_class=1, altered=None):
    """Write one under `root`; `altered` changes the contents, {file: dict}, before they are written.

    Returns the folder and the contents.
    """
    random = np.random.RandomState(3)
    if name == "cifar10":
        classes, key, meta, names = 10, "labels", "batches.meta", "label_names"
        parts = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
    else:
        classes, key, meta, names = 100, "fine_labels", "meta", "fine_label_names"
        parts = ["train", "test"]
    contents = {}
    for part in parts:
        labels = list(range(classes)) * per_class
        contents[part] = {"data": random.randint(0, 256, (len(labels), 3072), dtype=np.uint8), key: labels}
    contents[meta] = {names: [f"{name}-{k}" for k in range(classes)]}
    if altered:
        altered(contents)
    folder = root / FOLDERS[name]
    folder.mkdir(parents=True)
    for part, content in contents.items():
        (folder / part).write_bytes(pickle.dumps(content, protocol=2))
    return folder, contents
