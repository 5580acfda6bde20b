"""Small CIFAR archives in the standard python layout, for tests of what reads them."""

import dataclasses
import hashlib
import io
import pickle
import tarfile
import urllib.error

import numpy as np

from adakd.data import cifar

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


class Server:
    """Answers `urllib.request.urlopen` with the bytes of an archive, and keeps the requests.

    `cut` ends an answer after so many bytes, as a broken connection does; `ranges` says whether parts are served.
    """

    def __init__(self, content):
        self.content, self.cut, self.ranges, self.online, self.requests = content, None, True, True, []

    def __call__(self, request, timeout):
        self.requests.append(request)
        if not self.online:
            raise urllib.error.URLError("Temporary failure in name resolution")
        start, status = 0, 200
        if self.ranges and request.has_header("Range"):
            start, status = int(request.get_header("Range").removeprefix("bytes=").removesuffix("-")), 206
        response = io.BytesIO(self.content[start:][: self.cut])
        response.status = status
        return response


def pack(folder, add=None):
    """The folder as a .tar.gz: its bytes. `add` puts other members first."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        if add:
            add(tar)
        tar.add(folder, folder.name)
    return buffer.getvalue()


def publish(monkeypatch, name, folder, content=None):
    """Let the small archive in `folder` be the one that its authors publish; returns its server."""
    content = pack(folder) if content is None else content
    archive = dataclasses.replace(
        cifar._SETS[name].archive,
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        files={
            file: hashlib.md5((folder / file).read_bytes()).hexdigest()
            for file in cifar._SETS[name].archive.files
        },
    )
    monkeypatch.setitem(cifar._SETS, name, dataclasses.replace(cifar._SETS[name], archive=archive))
    server = Server(content)
    monkeypatch.setattr("urllib.request.urlopen", server)
    return server
