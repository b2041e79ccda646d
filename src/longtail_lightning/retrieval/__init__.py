"""An external memory of items that are found by their features, and edited without any training."""

from longtail_lightning.retrieval.faiss_index import FaissIndex as FaissIndex
from longtail_lightning.retrieval.index import Found as Found
from longtail_lightning.retrieval.index import VectorIndex as VectorIndex
from longtail_lightning.retrieval.memory import RetrievalMemory as RetrievalMemory
from longtail_lightning.retrieval.neighbors import Neighbors as Neighbors
from longtail_lightning.retrieval.qdrant_index import QdrantIndex as QdrantIndex

__all__ = ["FaissIndex", "Found", "Neighbors", "QdrantIndex", "RetrievalMemory", "VectorIndex"]
