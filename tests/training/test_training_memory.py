"""Steps that are made to fit: the same step in parts, with activations computed again, in half precision."""

import math
import mmap
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch

from blocknerf.blocks.output import plan_scene
from blocknerf.core.config.load import load_config
from blocknerf.core.errors import UserError
from blocknerf.models.block_nerf import BlockNeRF
from blocknerf.runtime.memory import held_gb, is_out_of_memory
from blocknerf.runtime.precision import INTERVAL, START, LossScale, half_precision
from blocknerf.scene.store import ImageStore
from blocknerf.training.block.inputs import BlockFolders, BlockInputs
from blocknerf.training.block.memory import LEAST_RAYS, AdaptiveBatchSize
from blocknerf.training.block.trainer import BlockNeRFTrainer
from blocknerf.training.run.run import Run
from tests.support.room import write_room
from tests.support.small_field import SMALL

COMMON = (
    "block_manager.max_blocks=1",
    "dataset.batch_size=256",
    "training.use_visibility_network=false",
    "training.rgb_l1_share=0",
    "training.rgb_ssim_share=0",
    "logging.use_tensorboard=false",
    "validation.num_val_images=0",
)
both = pytest.mark.parametrize("backbone", SMALL)


@pytest.fixture(scope="module")
def room(tmp_path_factory) -> Path:
    return write_room(tmp_path_factory.mktemp("room"))


def _trainer(room: Path, out: Path, backbone: str, *overrides: str) -> BlockNeRFTrainer:
    run = Run(*plan_scene(load_config(None, [*SMALL[backbone], *COMMON, *overrides]), room, out), out)
    store = ImageStore.open(run.scene, 1, out / "store", progress=False)
    block = run.plan.blocks[0]
    return BlockNeRFTrainer(
        BlockInputs(run.config, block, store, run.plan.scene_hash), BlockFolders(out / "blocks" / block.id)
    )


def _gradients(trainer: BlockNeRFTrainer) -> list[torch.Tensor]:
    """Of the trainer's first batch, samples not perturbed."""
    batch = trainer.sampler.next()
    trainer.stepper.memory.backward(batch, lambda part: trainer.stepper.loss_of(part, 0, None), None)
    return [gradient.clone() for gradient in trainer.stepper.optimizer.gradients_of_all()]


def _close(one: list[torch.Tensor], other: list[torch.Tensor], share: float) -> bool:
    return len(one) == len(other) and all(
        float((a - b).norm()) <= share * float(a.norm()) + 1e-9 for a, b in zip(one, other, strict=True)
    )


@both
def test_a_batch_in_parts_has_the_gradient_of_the_whole(room, tmp_path, backbone):
    whole, parts = (_trainer(room, tmp_path / name, backbone) for name in ("whole", "parts"))
    parts.stepper.memory.parts.size = 100  # 100, 100, 56
    assert _close(_gradients(whole), _gradients(parts), 1e-4)


@both
def test_patches_count_as_much_in_parts(room, tmp_path, backbone):
    mixture = ("training.rgb_ssim_share=0.5", "dataset.patch_share=0.95")  # two patches and 14 single pixels
    whole, parts = (_trainer(room, tmp_path / name, backbone, *mixture) for name in ("whole", "parts"))
    parts.stepper.memory.parts.size = 90  # 125, 4 and 127 rays
    assert _close(_gradients(whole), _gradients(parts), 1e-4)


@both
def test_activations_computed_again_give_the_same_gradient(room, tmp_path, backbone):
    kept = _trainer(room, tmp_path / "kept", backbone)
    again = _trainer(room, tmp_path / "again", backbone, "training.use_gradient_checkpointing=true")
    assert _close(_gradients(kept), _gradients(again), 1e-4)


def test_activations_computed_again_are_not_kept(room, tmp_path):
    """Bytes that autograd holds between forward and backward."""
    held = {}
    for name, use in (("kept", "false"), ("again", "true")):
        trainer = _trainer(room, tmp_path / name, "mlp", f"training.use_gradient_checkpointing={use}")
        kept: dict[int, int] = {}

        def pack(tensor, kept=kept):
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
            return tensor

        batch = trainer.sampler.next()
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            trainer.stepper.loss_of(batch, 0, None)
        held[name] = sum(kept.values())
    assert held["again"] < 0.4 * held["kept"]


@both
def test_running_out_of_memory_costs_no_step(room, tmp_path, backbone, caplog):
    calm, shaken = (_trainer(room, tmp_path / name, backbone) for name in ("calm", "shaken"))
    calm.stepper.memory.parts.size = 64
    loss_of, failures = shaken.stepper.loss_of, iter([1, 3])

    def too_large(batch, step, rng):
        total, terms = loss_of(batch, step, rng)
        if len(batch.rays) > 64:
            too_large.calls += 1
            if too_large.calls == next(failures, 0):
                total.backward()  # what was added up before is given up as well
            raise torch.OutOfMemoryError("CUDA out of memory")
        return total, terms

    too_large.calls = 0
    shaken.stepper.loss_of = too_large
    for trainer in (calm, shaken):
        for _ in range(3):
            trainer.train_step()
    assert shaken.stepper.memory.parts.size == 64
    assert too_large.calls == 2
    assert "parts of 64 rays" in caplog.text
    one, other = calm.model.state_dict(), shaken.model.state_dict()
    assert all(torch.equal(one[name], other[name]) for name in one)


def test_what_is_no_lack_of_memory_is_raised(room, tmp_path):
    trainer = _trainer(room, tmp_path, "hash")

    def broken(batch, step, rng):
        raise RuntimeError("shapes cannot be multiplied")

    trainer.stepper.loss_of = broken
    with pytest.raises(RuntimeError, match="shapes"):
        trainer.train_step()


def test_when_nothing_fits_a_sentence_says_what_helps():
    parts = AdaptiveBatchSize(64)
    parts.shrink()
    parts.shrink()
    assert parts.size == LEAST_RAYS
    with pytest.raises(UserError, match="use_gradient_checkpointing"):
        parts.shrink()


def test_parts_grow_to_the_limit_and_not_beyond():
    """A process of 1 GB whose rays take a megabyte each."""
    parts = AdaptiveBatchSize(4096, memory_limit_gb=3.0)
    for _ in range(20):
        parts.observe(1.0, 1.0 + parts.size * 1e-3)
    assert 1.0 + parts.size * 1e-3 < 3.0
    assert parts.size >= 512
    roomy = AdaptiveBatchSize(4096, memory_limit_gb=100.0)
    for _ in range(20):
        roomy.observe(1.0, 1.0 + roomy.size * 1e-3)
    assert roomy.size == 4096


def test_parts_never_grow_again_to_what_failed():
    parts = AdaptiveBatchSize(4096, memory_limit_gb=100.0)
    for _ in range(3):
        parts.observe(1.0, 1.0)
    assert parts.size == 2048
    parts.shrink()
    for _ in range(5):
        parts.observe(1.0, 1.0)
    assert parts.size == 1024


def test_a_limit_is_kept_while_training(room, tmp_path):
    trainer = _trainer(room, tmp_path, "hash", "training.memory_limit_gb=1e-6")
    for _ in range(6):
        trainer.train_step()
    assert trainer.stepper.memory.parts.size == LEAST_RAYS  # it cannot be kept: parts are as small as they may be


def test_resident_memory_is_what_was_touched():
    """Pages of its own from the system: an allocator may hand out what it has kept, which is resident already."""
    before_gb = held_gb()
    with mmap.mmap(-1, 100_000_000) as pages:
        assert held_gb() - before_gb == pytest.approx(0.0, abs=0.02)
        pages[:: mmap.PAGESIZE] = bytes(-(-len(pages) // mmap.PAGESIZE))
        assert held_gb() - before_gb == pytest.approx(0.1, abs=0.02)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("CUDA out of memory."), True),
        (
            RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
            True,
        ),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_what_is_out_of_memory(error, is_one):
    assert is_out_of_memory(error) is is_one


def test_torchs_own_error_is_recognised():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)


def test_each_kind_of_device_has_its_half(monkeypatch):
    assert half_precision("cuda") is torch.float16
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False)
    assert half_precision("cpu") is None
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert half_precision("cpu") is torch.bfloat16


def test_networks_on_cuda_learn_in_float16_with_a_scale(room, tmp_path, monkeypatch):
    """Rays stay on the processor; what counts is where networks stand."""
    asked = []

    def autocast(device_type, dtype):
        asked.append((device_type, dtype))
        return nullcontext()

    monkeypatch.setattr("blocknerf.models.block_nerf.torch.autocast", autocast)
    monkeypatch.setattr(BlockNeRF, "device_type", "cuda")
    trainer = _trainer(room, tmp_path, "mlp", "training.use_mixed_precision=true")
    assert trainer.stepper.memory.scale is not None
    assert trainer.stepper.memory.scale.scale == START
    trainer.train_step()
    assert set(asked) == {("cuda", torch.float16)}


@pytest.mark.skipif(half_precision("cpu") is None, reason="this processor cannot multiply bfloat16")
def test_half_precision_is_near_the_whole_and_not_it(room, tmp_path):
    whole = _trainer(room, tmp_path / "whole", "mlp")
    half = _trainer(room, tmp_path / "half", "mlp", "training.use_mixed_precision=true")
    one, other = _gradients(whole), _gradients(half)
    assert _close(one, other, 0.1)
    assert any(not torch.equal(a, b) for a, b in zip(one, other, strict=True))
    assert all(gradient.dtype == torch.float32 for gradient in other)


@pytest.mark.skipif(half_precision("cpu") is None, reason="this processor cannot multiply bfloat16")
def test_hash_on_a_processor_stays_whole_and_says_so(room, tmp_path, caplog):
    whole = _trainer(room, tmp_path / "whole", "hash")
    half = _trainer(room, tmp_path / "half", "hash", "training.use_mixed_precision=true")
    assert "has no effect for the hash backbone" in caplog.text
    assert all(torch.equal(a, b) for a, b in zip(_gradients(whole), _gradients(half), strict=True))


def test_a_processor_without_it_says_so(room, tmp_path, caplog, monkeypatch):
    monkeypatch.setattr("blocknerf.training.block.memory.half_precision", lambda device: None)
    trainer = _trainer(room, tmp_path, "hash", "training.use_mixed_precision=true")
    assert trainer.model.half is None
    assert "cannot multiply bfloat16" in caplog.text


@both
def test_a_scaled_loss_in_float16_gives_the_gradient(room, tmp_path, backbone, monkeypatch):
    monkeypatch.setattr("blocknerf.training.block.memory.half_precision", lambda device: torch.float16)
    whole = _trainer(room, tmp_path / "whole", backbone)
    scaled = _trainer(room, tmp_path / "scaled", backbone, "training.use_mixed_precision=true")
    one = _gradients(whole)
    scaled.stepper.memory.scale = LossScale(256.0)
    _gradients(scaled)
    assert scaled.stepper.memory.gradients_are_finite()
    assert _close(one, list(scaled.stepper.optimizer.gradients_of_all()), 0.1)


def test_a_step_that_overflows_is_left_out(room, tmp_path, monkeypatch):
    monkeypatch.setattr("blocknerf.training.block.memory.half_precision", lambda device: torch.float16)
    trainer = _trainer(room, tmp_path, "mlp", "training.use_mixed_precision=true")
    trainer.stepper.memory.scale = LossScale(math.inf)
    before = {name: value.clone() for name, value in trainer.model.state_dict().items()}
    trainer.train_step()
    assert all(torch.equal(before[name], value) for name, value in trainer.model.state_dict().items())
    assert trainer.step == 1


def test_the_scale_halves_after_an_overflow_and_doubles_after_many_good_steps():
    scale = LossScale(1024.0)
    gradient = torch.tensor([2048.0])
    assert scale.unscale([gradient])
    assert gradient.tolist() == [2.0]
    assert not scale.unscale([torch.tensor([1.0]), torch.tensor([math.inf])])
    assert scale.scale == 512.0
    for _ in range(INTERVAL):
        assert scale.unscale([torch.ones(1)])
    assert scale.scale == 1024.0


def test_a_resumed_run_knows_how_large_its_parts_are(room, tmp_path):
    trainer = _trainer(room, tmp_path, "hash", "training.memory_limit_gb=100")
    trainer.train_step()
    trainer.stepper.memory.parts.size = trainer.stepper.memory.parts.largest = 64
    trainer.save()
    again = BlockNeRFTrainer(trainer.inputs, trainer.folders)
    assert again.resume()
    assert again.stepper.memory.parts.state() == {"size": 64, "largest": 64}
