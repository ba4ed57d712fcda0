"""Running the frozen model: how its forward pass is computed. `torch_*` is the reference and runs on GPUs; `openvino` is for CPUs."""
