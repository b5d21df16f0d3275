"""Writes digits.bin beside this file, from the copy that scikit-learn ships. See digits.md for the layout.

    pip install scikit-learn && python make_digits.py
"""

import hashlib
from pathlib import Path

import sklearn
from sklearn.datasets import load_digits

data = load_digits()
packed, decoded = bytearray(), bytearray()
for image, label in zip(data.images.astype(int).tolist(), data.target.tolist(), strict=True):
    assert 0 <= label < 10 and len(image) == 8
    for row in image:
        assert len(row) == 8 and all(0 <= pixel <= 16 for pixel in row)
        packed += sum(pixel << (5 * c) for c, pixel in enumerate(row)).to_bytes(5, "little")
        decoded += bytes(row)
    packed.append(label)
    decoded.append(label)

assert (len(packed), len(decoded)) == (1797 * 41, 1797 * 65)
Path(__file__).with_name("digits.bin").write_bytes(packed)
print(f"scikit-learn {sklearn.__version__}")
print(f"{hashlib.sha256(packed).hexdigest()}  digits.bin, {len(packed)} bytes")
print(f"{hashlib.sha256(decoded).hexdigest()}  decoded, {len(decoded)} bytes")
