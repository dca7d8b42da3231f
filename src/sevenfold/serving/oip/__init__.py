"""The Open Inference Protocol, version 2: the model that serves, asked with tensors, over REST and gRPC."""
