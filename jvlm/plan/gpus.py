"""What GPUs can do, from their makers' data sheets."""

from dataclasses import dataclass

from jvlm.errors import UsageError


@dataclass(frozen=True)
class Gpu:
    """One GPU. Speeds in 10^12 dense operations per second, memory in GiB as programs see it, bandwidth in TB/s."""

    name: str
    bfloat16: float
    float32: float
    memory_gib: float
    bandwidth: float
    watts: float
    source: str

    def speed(self, precision: str) -> float:
        """Operations per second of matrix products in this precision (torch takes no TF32 unless it is told to)."""
        return 1e12 * (self.bfloat16 if precision == "bfloat16" else self.float32)


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("a100-40g", 312, 19.5, 39.4, 1.555, 400, "NVIDIA A100 Tensor Core GPU data sheet, SXM4 40 GB"),
        Gpu("a100-80g", 312, 19.5, 79.2, 2.039, 400, "NVIDIA A100 Tensor Core GPU data sheet, SXM4 80 GB"),
        Gpu("h100", 989, 67, 79.1, 3.35, 700, "NVIDIA H100 Tensor Core GPU data sheet, SXM5 80 GB"),
        Gpu("h100-pcie", 756, 51, 79.1, 2.0, 350, "NVIDIA H100 Tensor Core GPU data sheet, PCIe 80 GB"),
        Gpu("h200", 989, 67, 139.8, 4.8, 700, "NVIDIA H200 Tensor Core GPU data sheet, SXM 141 GB"),
        Gpu("b200", 2250, 75, 178.0, 7.7, 1000, "NVIDIA DGX B200 data sheet, a GPU's share"),
        Gpu("l40s", 362, 91.6, 44.4, 0.864, 350, "NVIDIA L40S data sheet"),
        Gpu("l4", 121, 30.3, 22.0, 0.3, 72, "NVIDIA L4 data sheet"),
        Gpu("a10g", 70, 35, 22.0, 0.6, 300, "NVIDIA A10G product brief"),
        Gpu("a6000", 155, 38.7, 47.4, 0.768, 300, "NVIDIA RTX A6000 data sheet"),
        Gpu("rtx3090", 71, 35.6, 23.6, 0.936, 350, "NVIDIA Ampere GA102 white paper"),
        Gpu("rtx4090", 165, 82.6, 23.5, 1.008, 450, "NVIDIA Ada white paper"),
    )
}


def gpu_named(name: str) -> Gpu:
    """Raises UsageError for one that is not listed."""
    if name not in GPUS:
        raise UsageError(f"no GPU '{name}' is listed", fix=f"known: {', '.join(GPUS)}")
    return GPUS[name]
