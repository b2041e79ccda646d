from __future__ import annotations

import torch

from longtail_lightning.features import _memory
from longtail_lightning.features._memory import free_memory

CPU = torch.device("cpu")


def test_of_this_machine():
    free = free_memory(CPU)
    assert free is None or 0 < free < 1 << 50
    assert free_memory(torch.device("meta")) is None


def test_the_smaller_of_machine_and_container(tmp_path, monkeypatch):
    (tmp_path / "meminfo").write_text("MemTotal: 9000 kB\nMemAvailable:    4000 kB\n")
    monkeypatch.setattr(_memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(_memory, "_CGROUP", tmp_path)
    assert free_memory(CPU) == 4000 * 1024
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("2000\n")
    (tmp_path / "memory.stat").write_text("anon 1\ninactive_file 300\nactive_file 200\n")
    assert free_memory(CPU) == 4000 * 1024, "no limit"
    (tmp_path / "memory.max").write_text("5000\n")
    assert free_memory(CPU) == 5000 - 2000 + 500
    monkeypatch.setattr(_memory, "_MEMINFO", tmp_path / "nothing")
    (tmp_path / "memory.max").unlink()
    assert free_memory(CPU) is None
