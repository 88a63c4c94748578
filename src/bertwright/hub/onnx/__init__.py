"""ONNX models: graphs, folders, int8."""
