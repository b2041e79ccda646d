"""One loss in a training loop that you already have: two lines change."""

import torch
from torch.utils.data import DataLoader

from longtail_lightning import ClassCounts, LogitAdjustedLoss, SyntheticImages, create_backbone, labels_of

dataset = SyntheticImages([200, 50, 20, 10, 5])
loader = DataLoader(dataset, batch_size=32, shuffle=True)
model = torch.nn.Sequential(create_backbone("cifar_resnet20"), torch.nn.Linear(64, 5))
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)

# Instead of: criterion = torch.nn.CrossEntropyLoss()
criterion = LogitAdjustedLoss(class_counts=ClassCounts.from_labels(labels_of(dataset)))

for epoch in range(2):
    for images, target in loader:
        loss = criterion(model(images.float() / 255), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"epoch {epoch}: loss {loss.item():.3f}")
