"""Does a server keep TensorFlow Serving's contract? Checks that are run against any address."""
