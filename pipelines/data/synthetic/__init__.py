"""A synthetic fashion shop that streams: what makes the real problem hard and learnable, at any size."""

from pipelines.data.synthetic.shop import Shop
from pipelines.data.synthetic.size import ShopSize, parse_shop_uri

__all__ = ["Shop", "ShopSize", "parse_shop_uri"]
