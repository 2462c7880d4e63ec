"""Devices, precisions, memory, and profiles on a device."""

import numpy as np
import pytest
import torch

from dgex.config import TrainConfig
from dgex.errors import DataError, UsageError
from dgex.models import device as module
from dgex.models.device import (
    Profiles,
    all_profiles,
    bf16_pays,
    check_memory,
    choose_device,
    choose_precision,
    free_memory,
    has_bf16,
    is_out_of_memory,
    out_of_memory,
    sums_in_float32,
    to_device,
    to_host,
)

CPU = torch.device("cpu")


def test_devices():
    assert choose_device("auto").type in ("cuda", "mps", "cpu")
    if not torch.cuda.is_available():
        with pytest.raises(UsageError, match=r"no device cuda here\. Choose auto or"):
            choose_device("cuda")


def test_a_gpu_is_taken_first(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert choose_device("auto").type == choose_device("cuda").type == "cuda"
    assert choose_device("cpu").type == "cpu"


@pytest.mark.parametrize(
    ("name", "native", "ratio", "expected"),
    [
        ("auto", True, 0.5, "bf16"),
        ("auto", True, 1.9, "float32"),
        ("auto", False, 0.5, "float32"),
        ("bf16", True, 1.9, "bf16"),
        ("float32", True, 0.5, "float32"),
        ("float32", False, 0.5, "float32"),
    ],
)
def test_precisions(monkeypatch, name, native, ratio, expected):
    monkeypatch.setattr(module, "has_bf16", lambda device: native)
    monkeypatch.setattr(module, "_seconds_ratio", lambda: ratio)
    assert choose_precision(name, CPU) == expected


def test_bf16_is_timed_on_processors_only(monkeypatch):
    monkeypatch.setattr(module, "has_bf16", lambda device: True)
    monkeypatch.setattr(module, "_seconds_ratio", lambda: pytest.fail("timed"))
    assert bf16_pays(torch.device("cuda"))


def test_timing_leaves_random_numbers_alone():
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    module._seconds_ratio.cache_clear()
    assert 0 < module._seconds_ratio() < float("inf")
    assert torch.equal(torch.rand(3), expected)


def test_bf16_is_refused_where_it_would_be_emulated(monkeypatch):
    monkeypatch.setattr(module, "has_bf16", lambda device: False)
    with pytest.raises(UsageError, match=r"This cpu has no instructions .* Leave out --precision"):
        choose_precision("bf16", CPU)


@pytest.mark.parametrize(
    ("features", "expected"),
    [
        ({"avx512_bf16": True, "amx_bf16": False}, True),
        ({"avx512_bf16": False, "amx_bf16": True}, True),
        ({"avx512_f": True, "avx512_bf16": False}, False),
        ({}, False),
    ],
)
def test_processors_with_bf16(monkeypatch, features, expected):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: features, raising=False)
    assert has_bf16(CPU) is expected


def test_torch_that_cannot_say_has_no_bf16(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not has_bf16(CPU)


@pytest.mark.parametrize(
    ("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)]
)
def test_gpus_with_bf16(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert has_bf16(torch.device("cuda")) is expected
    assert not has_bf16(torch.device("mps"))


def test_memory_is_checked_beforehand(monkeypatch):
    config = TrainConfig(model="dgex", hidden_layers=3, hidden_units=9000)
    monkeypatch.setattr(module, "free_memory", lambda device: 5e9)
    check_memory(200_000_000, 24, config, CPU)
    with pytest.raises(
        DataError,
        match=r"3 x 9000 hidden units \(256,000,000 weights\) needs 6\.1 GB to be trained on "
        r"this cpu, and 5\.0 GB are free\. Take fewer --hidden-units",
    ):
        check_memory(256_000_000, 24, config, CPU)


def test_some_memory_is_free():
    assert free_memory(CPU) > 0


def test_what_is_out_of_memory():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60)
    assert is_out_of_memory(caught.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory."))
    assert not is_out_of_memory(RuntimeError("shapes do not fit"))
    error = out_of_memory(10, 24, TrainConfig(), CPU, "there is not as much")
    assert "\n" not in str(error)


def test_sums_in_float32_is_undone():
    switches = torch.backends.cuda.matmul
    before = switches.allow_bf16_reduced_precision_reduction
    with sums_in_float32():
        assert not switches.allow_bf16_reduced_precision_reduction
    assert switches.allow_bf16_reduced_precision_reduction == before


def test_to_host_and_back():
    arrays = {"a": np.arange(3.0), "b": np.ones((2, 2), np.float32)}
    back = to_host(to_device(arrays, CPU))
    for name, array in arrays.items():
        np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize("resident", [None, torch.float32, torch.bfloat16])
def test_profiles_by_row(dataset, resident):
    profiles = Profiles(dataset["gtex"], CPU, resident)
    rows = np.array([0, 3, 3, 14])
    x_bl, y_bt = profiles.take(profiles.order(rows))
    np.testing.assert_array_equal(x_bl, dataset["gtex"].x_nl[rows])
    expected = torch.from_numpy(np.array(dataset["gtex"].y_nt[rows]))
    assert torch.equal(y_bt, expected.to(resident or torch.float32))
    assert profiles.n == 15
    assert profiles.present.tolist() == [t for t in range(9) if t not in (1, 4)]


@pytest.mark.parametrize(
    ("free", "expected"), [(1e9, torch.float32), (15_000, torch.bfloat16), (100, None)]
)
def test_a_gpu_holds_what_fits_half_of_it(dataset, monkeypatch, free, expected):
    made = {}
    monkeypatch.setattr(module, "free_memory", lambda device: free)
    monkeypatch.setattr(
        module,
        "Profiles",
        lambda profiles, device, resident: made.setdefault(profiles.name, resident),
    )
    found = all_profiles(dataset, torch.device("cuda"), torch.bfloat16)
    # 150 profiles of 6 landmarks and 9 targets: 9,000 bytes in float32, 6,300 with bf16 targets.
    assert found == dict.fromkeys(dataset.sets, expected)


def test_a_processor_reads_from_files(dataset):
    for profiles in all_profiles(dataset, CPU, torch.bfloat16).values():
        assert profiles._tensors is None
