//! The 1,797 images of the UCI optical digits (test part), embedded: 8 x 8 pixels of 0..=16, ten classes.
//!
//! ```text
//! record (41 bytes) = 8 image rows of 5 bytes, label        pixel c of a row = bits 5 c .. 5 c + 5
//! ```
//! `digits.md` beside this file tells the source, the licence and the checksums; `make_digits.py` makes the bytes.

use super::Dataset;
use crate::matrix::Matrix;

const SAMPLES: usize = 1797;
const RECORD: usize = 41;

static BYTES: &[u8; SAMPLES * RECORD] = include_bytes!("digits.bin");

/// The test part of the UCI *Optical Recognition of Handwritten Digits*: 1,797 samples x 64 features in 0..=16.
///
/// E. Alpaydin and C. Kaynak (1998), <https://doi.org/10.24432/C50P49>, CC BY 4.0; the same samples in the same order
/// as `load_digits` of scikit-learn.
///
/// ```
/// let digits = sal_kernels::data::digits();
/// assert_eq!((digits.len(), digits.features(), digits.classes()), (1797, 64, 10));
/// assert_eq!(digits.range(), (0.0, 16.0));
/// ```
pub fn digits() -> Dataset {
    let mut inputs = Matrix::zeros(SAMPLES, 64).expect("460 KB of memory");
    let mut labels = Vec::with_capacity(SAMPLES);
    let records = BYTES.as_chunks::<RECORD>().0;
    for (record, pixels) in records.iter().zip(inputs.as_mut_slice().as_chunks_mut::<64>().0) {
        let (rows, label) = record.as_chunks::<5>();
        for (&[a, b, c, d, e], pixels) in rows.iter().zip(pixels.as_chunks_mut::<8>().0) {
            let bits = u64::from_le_bytes([a, b, c, d, e, 0, 0, 0]);
            for (c, pixel) in pixels.iter_mut().enumerate() {
                *pixel = (bits >> (5 * c) & 31) as f32;
            }
        }
        labels.push(u32::from(label[0]));
    }
    Dataset::new("digits", inputs, labels, 10, (0.0, 16.0)).expect("the embedded bytes are valid")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_is_the_one_of_scikit_learn() {
        let data = digits();
        let mut counts = [0; 10];
        let mut decoded = Vec::new();
        for (sample, &label) in data.labels().iter().enumerate() {
            counts[label as usize] += 1;
            decoded.extend(data.inputs().row(sample).iter().map(|&x| x as u8));
            decoded.push(label as u8);
        }
        assert_eq!(counts, [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]);
        // From Python: xxhash.xxh3_64 of the values of load_digits; see digits.md.
        assert_eq!(xxhash_rust::xxh3::xxh3_64(&decoded), 0x5eee_c1e0_241a_6a7e);
    }

    #[test]
    fn images_look_as_they_should() {
        let data = digits();
        #[rustfmt::skip]
        let first = [
            0., 0.,  5., 13.,  9.,  1., 0., 0.,
            0., 0., 13., 15., 10., 15., 5., 0.,
            0., 3., 15.,  2.,  0., 11., 8., 0.,
            0., 4., 12.,  0.,  0.,  8., 8., 0.,
            0., 5.,  8.,  0.,  0.,  9., 8., 0.,
            0., 4., 11.,  0.,  1., 12., 7., 0.,
            0., 2., 14.,  5., 10., 12., 0., 0.,
            0., 0.,  6., 13., 10.,  0., 0., 0.,
        ];
        assert_eq!(data.inputs().row(0), first);
        #[rustfmt::skip]
        let last = [
            0., 0., 10., 14.,  8.,  1., 0., 0.,
            0., 2., 16., 14.,  6.,  1., 0., 0.,
            0., 0., 15., 15.,  8., 15., 0., 0.,
            0., 0.,  5., 16., 16., 10., 0., 0.,
            0., 0., 12., 15., 15., 12., 0., 0.,
            0., 4., 16.,  6.,  4., 16., 6., 0.,
            0., 8., 16., 10.,  8., 16., 8., 0.,
            0., 1.,  8., 12., 14., 12., 1., 0.,
        ];
        assert_eq!(data.inputs().row(1796), last);
        assert_eq!([0, 1, 899, 1796].map(|i| data.labels()[i]), [0, 1, 8, 8]);
    }
}
