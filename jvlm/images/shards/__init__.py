"""Image shards: WebDataset tars of samples, an offset index for random access, and a card.

A folder holds

- `SHARD-000000.tar`, … with members `KEY.json`, `KEY.0.jpg`, `KEY.1.png`, …, readable by webdataset as they are;
- `index.npz`, the byte range of every member, and upright width and height of every image;
- `records.jsonl.zst`, every `KEY.json` again in one file: who reads from afar plans with it before a shard is fetched;
- `dataset.json`, the card: counts, hashes, and what the set was built from.

The same samples give the same bytes.
"""

from jvlm.images.shards.check import check_shards
from jvlm.images.shards.format import image_extension, shard_key
from jvlm.images.shards.reader import ShardReader
from jvlm.images.shards.remote import open_shards
from jvlm.images.shards.writer import write_shards

__all__ = ["ShardReader", "check_shards", "image_extension", "open_shards", "shard_key", "write_shards"]
