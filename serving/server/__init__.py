"""An embedded model server that keeps TensorFlow Serving's contract."""
