"""Does a server keep TensorFlow Serving's contract? Checks that are run against any address.

What is expected was read from the sources of TensorFlow Serving 2.20.0 and of TensorFlow; it has
not been compared with a running tensorflow_model_server, which decides where the two disagree.
"""
