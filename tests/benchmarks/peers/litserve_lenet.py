"""LitServe serving a SavedModel: python litserve_lenet.py SAVED_MODEL PORT.

The same callable as ours, as LitServe's own examples wire one: JSON in, JSON out, one worker
process, no batching.
"""

from __future__ import annotations

import sys

import litserve
import numpy as np
import tensorflow as tf


class Lenet(litserve.LitAPI):
    """POST /predict with {"image": [height, width, channels] numbers}."""

    def setup(self, device):
        self.model = tf.saved_model.load(sys.argv[1])
        self.signature = self.model.signatures["serving_default"]

    def decode_request(self, request):
        return np.array(request["image"], np.float32)

    def predict(self, x):
        return self.signature(image=tf.constant(x[None]))["probabilities"].numpy()[0]

    def encode_response(self, output):
        return {"probabilities": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(Lenet(), accelerator="cpu")
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False)
