"""One sampler in a DataLoader that you already have.

Under DistributedDataParallel nothing changes: the sampler knows its rank, and all ranks together draw
what one process would.
"""

import torch
from torch.utils.data import DataLoader

from longtail_lightning import ClassBalancedSampler, SyntheticImages, labels_of

dataset = SyntheticImages([200, 50, 20, 10, 5])
sampler = ClassBalancedSampler(labels_of(dataset), seed=0)

# Instead of: DataLoader(dataset, batch_size=32, shuffle=True)
loader = DataLoader(dataset, batch_size=32, sampler=sampler)

for epoch in range(2):
    sampler.set_epoch(epoch)  # as for torch's DistributedSampler
    seen = torch.cat([target for _, target in loader]).bincount(minlength=5)
    print(f"epoch {epoch}: images per class {seen.tolist()}")
