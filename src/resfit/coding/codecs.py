"""The codecs by name, as container files name them."""

from resfit.coding.codec import Codec
from resfit.coding.huffman import Huffman
from resfit.coding.lzw import Lzw
from resfit.coding.range_codec import Range
from resfit.coding.raw import Raw
from resfit.coding.zstd import Zstd

CODECS: dict[str, Codec] = {"raw": Raw(), "huffman": Huffman(), "lzw": Lzw(), "zstd": Zstd(), "range": Range()}
