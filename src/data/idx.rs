//! IDX files, the format of MNIST and its relatives: tensors of bytes, plain or compressed with gzip.
//!
//! ```text
//! 00 00 08 n | size of dimension 0 | ... | size of dimension n - 1 | the bytes, row-major     sizes: u32, big-endian
//! images: n = 3 (samples, height, width)       labels: n = 1 (samples)
//! ```
//! A file may lie. Sizes are multiplied with checks and compared with the length of a plain file before any memory is
//! taken; from a compressed file, memory grows with the bytes that have really arrived, up to what the header says.

use super::{DataError, Dataset};
use crate::matrix::Matrix;
use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// The largest tensor that is read, in bytes: 1 GiB, twice the images of EMNIST, and 4 GiB as f32.
pub const MAX_BYTES: u64 = 1 << 30;

const GZIP_MAGIC: [u8; 2] = [0x1f, 0x8b];
const BYTE: u8 = 0x08;

/// A tensor of bytes with 1 to 4 dimensions, none of them 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tensor {
    dims: Vec<usize>,
    bytes: Vec<u8>,
}

impl Tensor {
    /// Reads a file, compressed if it starts with the magic bytes of gzip, whatever its name.
    ///
    /// # Errors
    /// If the file cannot be read, is compressed and the feature `gzip` is off, is no tensor of bytes, holds fewer or
    /// more bytes than its header says or more than [`MAX_BYTES`].
    pub fn open(path: impl AsRef<Path>) -> Result<Self, DataError> {
        let path = path.as_ref();
        let io = |source| DataError::Io { path: path.into(), source };
        let file = File::open(path).map_err(io)?;
        let len = file.metadata().map_err(io)?.len();
        Self::read(path, file, len)
    }

    /// As [`Tensor::open`], for a file that lies in memory; `name` stands for its path in errors.
    ///
    /// ```
    /// use sal_kernels::data::idx::Tensor;
    /// let labels = Tensor::from_bytes("labels", &[0, 0, 8, 1, 0, 0, 0, 3, 5, 0, 4])?;
    /// assert_eq!((labels.dims(), labels.bytes()), (&[3][..], &[5, 0, 4][..]));
    /// let message = Tensor::from_bytes("labels", &[0, 0, 8, 1, 0, 0, 0, 3, 5, 0]).unwrap_err().to_string();
    /// assert_eq!(message, "labels: byte 8: the header announces 3 bytes, the file goes on for 2");
    /// # Ok::<(), sal_kernels::data::DataError>(())
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::open`].
    pub fn from_bytes(name: impl AsRef<Path>, bytes: &[u8]) -> Result<Self, DataError> {
        Self::read(name.as_ref(), bytes, bytes.len() as u64)
    }

    /// The sizes of the dimensions, each at least 1.
    pub fn dims(&self) -> &[usize] {
        &self.dims
    }

    /// The elements, row-major.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads a file of `len` bytes.
    fn read(path: &Path, file: impl Read, len: u64) -> Result<Self, DataError> {
        let mut input = Input::new(path, file, len)?;
        let magic = input.take("the magic number", 4)?;
        let fail = |offset, reason| Err(DataError::Format { path: path.into(), offset, reason });
        if magic[..2] != [0, 0] {
            return fail(0, format!("no IDX file: starts with {magic:02x?}, want two zeros"));
        }
        if magic[2] != BYTE {
            return fail(2, format!("elements of type {:#04x}, want bytes (0x08)", magic[2]));
        }
        if !(1..=4).contains(&magic[3]) {
            return fail(3, format!("{} dimensions, want 1 to 4", magic[3]));
        }
        let sizes = input.take("the sizes of the dimensions", 4 * u64::from(magic[3]))?;
        let sizes: Vec<u32> = sizes.as_chunks().0.iter().map(|&s| u32::from_be_bytes(s)).collect();
        if let Some(zero) = sizes.iter().position(|&s| s == 0) {
            let what = if zero == 0 { "no samples" } else { "samples of size zero" };
            return fail(4 + 4 * zero as u64, format!("{what}: dimensions {sizes:?}"));
        }
        let total = sizes.iter().try_fold(1u64, |n, &s| n.checked_mul(s.into()));
        let Some(total) = total.filter(|&n| n <= MAX_BYTES) else {
            return fail(4, format!("dimensions {sizes:?}: more than {MAX_BYTES} bytes"));
        };
        if let Some(rest) = input.rest.filter(|&rest| rest != total) {
            return fail(
                input.offset,
                format!("the header announces {total} bytes, the file goes on for {rest}"),
            );
        }
        let bytes = input.take("the elements", total)?;
        input.end()?;
        Ok(Self { dims: sizes.into_iter().map(|s| s as usize).collect(), bytes })
    }
}

/// The bytes of one file in order, decompressed, and how far they have been read.
struct Input<'a> {
    path: &'a Path,
    source: Box<dyn Read + 'a>,
    offset: u64,
    /// Bytes up to the end; unknown for a compressed file.
    rest: Option<u64>,
}

impl<'a> Input<'a> {
    fn new(path: &'a Path, mut file: impl Read + 'a, len: u64) -> Result<Self, DataError> {
        let mut head = Vec::new();
        let io = |source| DataError::Io { path: path.into(), source };
        file.by_ref().take(GZIP_MAGIC.len() as u64).read_to_end(&mut head).map_err(io)?;
        let compressed = head == GZIP_MAGIC;
        let file = io::Cursor::new(head).chain(file);
        let (source, rest) =
            if compressed { (gunzip(path, file)?, None) } else { (Box::new(file) as _, Some(len)) };
        Ok(Self { path, source, offset: 0, rest })
    }

    /// The next `want` bytes; memory grows with what arrives.
    fn take(&mut self, what: &str, want: u64) -> Result<Vec<u8>, DataError> {
        let mut bytes = Vec::new();
        let result = self.source.by_ref().take(want).read_to_end(&mut bytes);
        let got = bytes.len() as u64;
        self.offset += got;
        self.rest = self.rest.map(|rest| rest.saturating_sub(got));
        result.map_err(|e| self.failed(e))?;
        if got < want {
            return Err(self.wrong(format!("the file ends after {got} of {want} bytes of {what}")));
        }
        Ok(bytes)
    }

    /// Nothing may follow. Reading on to the end also checks the checksum of a compressed file.
    fn end(&mut self) -> Result<(), DataError> {
        match io::copy(&mut self.source.by_ref().take(1), &mut io::sink()) {
            Ok(0) => Ok(()),
            Ok(_) => Err(self.wrong("more bytes than the header announces".into())),
            Err(e) => Err(self.failed(e)),
        }
    }

    fn wrong(&self, reason: String) -> DataError {
        DataError::Format { path: self.path.into(), offset: self.offset, reason }
    }

    fn failed(&self, source: io::Error) -> DataError {
        use io::ErrorKind::{InvalidData, InvalidInput, UnexpectedEof};
        let damaged = matches!(source.kind(), InvalidData | InvalidInput | UnexpectedEof);
        if self.rest.is_none() && damaged {
            self.wrong(format!("damaged gzip file: {source}"))
        } else {
            DataError::Io { path: self.path.into(), source }
        }
    }
}

#[cfg(feature = "gzip")]
fn gunzip<'a>(_: &Path, file: impl Read + 'a) -> Result<Box<dyn Read + 'a>, DataError> {
    Ok(Box::new(flate2::read::MultiGzDecoder::new(file)))
}

#[cfg(not(feature = "gzip"))]
fn gunzip<'a>(path: &Path, _: impl Read + 'a) -> Result<Box<dyn Read + 'a>, DataError> {
    let reason = "compressed with gzip, which needs the feature `gzip` of this crate".into();
    Err(DataError::Format { path: path.into(), offset: 0, reason })
}

/// The dataset of one file of images (2 to 4 dimensions, the first one counts samples) and one file of labels.
///
/// Features are the bytes as they are, range 0..=255. `classes` is the largest label + 1 and at least 2, unless given.
///
/// # Errors
/// As [`Tensor::open`], or if the two counts differ or a label is not less than the `classes` given.
pub fn read_files(
    name: &str,
    images: impl AsRef<Path>,
    labels: impl AsRef<Path>,
    classes: Option<usize>,
) -> Result<Dataset, DataError> {
    let (images_path, labels_path) = (images.as_ref(), labels.as_ref());
    let fail =
        |path: &Path, offset, reason| DataError::Format { path: path.into(), offset, reason };
    let labels = Tensor::open(labels_path)?;
    let images = Tensor::open(images_path)?;
    let (samples, Some(features)) =
        (images.dims[0], images.dims[1..].iter().copied().reduce(|a, b| a * b))
    else {
        return Err(fail(images_path, 3, "1 dimension, images want 2 to 4".into()));
    };
    if labels.dims.len() != 1 {
        let reason = format!("{} dimensions, labels want 1", labels.dims.len());
        return Err(fail(labels_path, 3, reason));
    }
    if labels.dims[0] != samples {
        let file = images_path.display();
        let reason = format!("{} labels, but {samples} images in {file}", labels.dims[0]);
        return Err(fail(labels_path, 4, reason));
    }
    let largest = labels.bytes.iter().copied().max().unwrap_or(0);
    let classes = classes.unwrap_or((usize::from(largest) + 1).max(2));
    if let Some(at) = labels.bytes.iter().position(|&label| usize::from(label) >= classes) {
        let got = labels.bytes[at];
        let reason = format!("label of sample {at}: got {got}, want less than {classes}");
        return Err(fail(labels_path, 8 + at as u64, reason));
    }
    let mut inputs = Matrix::zeros(samples, features)?;
    for (x, &byte) in inputs.as_mut_slice().iter_mut().zip(&images.bytes) {
        *x = f32::from(byte);
    }
    let labels = labels.bytes.into_iter().map(u32::from).collect();
    Dataset::new(name, inputs, labels, classes, (0.0, 255.0))
}

/// The training part and, if it is there, the test part of a directory that is laid out as MNIST is.
///
/// The files are `train-images-idx3-ubyte`, `train-labels-idx1-ubyte`, `t10k-images-idx3-ubyte` and
/// `t10k-labels-idx1-ubyte`; `.idx` may stand for `-idx`, and `.gz` may follow (a plain file goes first). Both parts
/// are named after the directory. The training labels tell the number of classes.
///
/// ```no_run
/// let (train, test) = sal_kernels::data::idx::read_directory("mnist")?;
/// assert_eq!((train.features(), train.classes()), (784, 10));
/// # Ok::<(), sal_kernels::data::DataError>(())
/// ```
///
/// # Errors
/// As [`read_files`], or if a file is missing or the two parts have another number of features.
pub fn read_directory(
    directory: impl AsRef<Path>,
) -> Result<(Dataset, Option<Dataset>), DataError> {
    let directory = directory.as_ref();
    let io = |source| DataError::Io { path: directory.into(), source };
    let name = fs::canonicalize(directory).map_err(io)?;
    let name = name.file_name().map_or("idx".into(), |name| name.to_string_lossy());
    let missing =
        |file: &str| DataError::Missing { directory: directory.into(), file: file.into() };
    let find = |file| find(directory, file).ok_or_else(|| missing(file));

    let images = find("train-images-idx3-ubyte")?;
    let train = read_files(&name, images, find("train-labels-idx1-ubyte")?, None)?;
    let (images, labels) = (find("t10k-images-idx3-ubyte"), find("t10k-labels-idx1-ubyte"));
    if images.is_err() && labels.is_err() {
        return Ok((train, None));
    }
    let images = images?;
    let test = read_files(&name, &images, labels?, Some(train.classes()))?;
    let (got, want) = (test.features(), train.features());
    if got != want {
        let reason = format!("images of {got} bytes, those of the training part have {want}");
        return Err(DataError::Format { path: images, offset: 8, reason });
    }
    Ok((train, Some(test)))
}

/// The file of that usual name, or under another name that it is distributed by.
fn find(directory: &Path, file: &str) -> Option<PathBuf> {
    let names = [file.to_owned(), file.replace("-idx", ".idx")];
    let plain = names.iter().map(|name| directory.join(name));
    let compressed = names.iter().map(|name| directory.join(format!("{name}.gz")));
    plain.chain(compressed).find(|path| path.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(dims: &[u32]) -> Vec<u8> {
        let mut bytes = vec![0, 0, BYTE, dims.len() as u8];
        dims.iter().for_each(|d| bytes.extend(d.to_be_bytes()));
        bytes
    }

    fn file(dims: &[u32], elements: &[u8]) -> Vec<u8> {
        [&header(dims), elements].concat()
    }

    fn parse(bytes: &[u8]) -> Result<Tensor, DataError> {
        Tensor::from_bytes("f", bytes)
    }

    fn message(bytes: &[u8]) -> String {
        parse(bytes).unwrap_err().to_string()
    }

    /// A directory that goes when the test ends.
    struct Temporary(PathBuf);

    impl Temporary {
        fn new(test: &str) -> Self {
            let path = std::env::temp_dir().join(format!("sal-{test}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn write(&self, file: &str, bytes: &[u8]) {
            fs::write(self.0.join(file), bytes).unwrap();
        }

        fn read(&self) -> Result<(Dataset, Option<Dataset>), DataError> {
            read_directory(&self.0)
        }

        /// The message without the path of this directory.
        fn message(&self) -> String {
            let path = format!("{}{}", self.0.display(), std::path::MAIN_SEPARATOR);
            self.read().unwrap_err().to_string().replace(&path, "")
        }
    }

    impl Drop for Temporary {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    #[test]
    fn tensors_of_one_to_four_dimensions_are_read() {
        for dims in [&[6][..], &[2, 3], &[1, 3, 2], &[3, 1, 2, 1]] {
            let tensor = parse(&file(dims, b"abcdef")).unwrap();
            assert!(
                tensor.dims().iter().eq(dims
                    .iter()
                    .map(|&d| d as usize)
                    .collect::<Vec<_>>()
                    .iter())
            );
            assert_eq!(tensor.bytes(), b"abcdef");
        }
    }

    #[test]
    fn what_is_wrong_is_named_with_its_offset() {
        assert_eq!(message(b""), "f: byte 0: the file ends after 0 of 4 bytes of the magic number");
        assert_eq!(
            message(&header(&[1, 2])[..9]),
            "f: byte 9: the file ends after 5 of 8 bytes of the sizes of the dimensions"
        );
        assert_eq!(
            message(b"PK\x03\x04"),
            "f: byte 0: no IDX file: starts with [50, 4b, 03, 04], want two zeros"
        );
        assert_eq!(message(&[0, 0, 13, 1]), "f: byte 2: elements of type 0x0d, want bytes (0x08)");
        assert_eq!(message(&[0, 0, 8, 0]), "f: byte 3: 0 dimensions, want 1 to 4");
        assert_eq!(message(&[0, 0, 8, 5]), "f: byte 3: 5 dimensions, want 1 to 4");
        assert_eq!(message(&header(&[0, 2])), "f: byte 4: no samples: dimensions [0, 2]");
        assert_eq!(
            message(&header(&[2, 3, 0])),
            "f: byte 12: samples of size zero: dimensions [2, 3, 0]"
        );
        assert_eq!(
            message(&file(&[2, 2], b"abc")),
            "f: byte 12: the header announces 4 bytes, the file goes on for 3"
        );
        assert_eq!(
            message(&file(&[2, 2], b"abcde")),
            "f: byte 12: the header announces 4 bytes, the file goes on for 5"
        );
    }

    #[test]
    fn sizes_that_overflow_or_exceed_the_cap_are_errors() {
        let max = u32::MAX;
        for dims in
            [&[max][..], &[max, max], &[max; 3], &[max; 4], &[1 << 16; 4], &[1 << 15, 1 << 16]]
        {
            let message = message(&file(dims, b"abc"));
            assert!(message.contains("more than 1073741824 bytes"), "{message}");
        }
    }

    #[test]
    fn a_file_that_grows_or_shrinks_while_it_is_read_is_an_error() {
        let bytes = file(&[4], b"abcd");
        let lying = |len| Tensor::read(Path::new("f"), &bytes[..], len).unwrap_err().to_string();
        assert_eq!(lying(11), "f: byte 8: the header announces 4 bytes, the file goes on for 3");
        let short = Tensor::read(Path::new("f"), &bytes[..11], 12).unwrap_err().to_string();
        assert_eq!(short, "f: byte 11: the file ends after 3 of 4 bytes of the elements");
        let long = [&bytes[..], b"e"].concat();
        let long = Tensor::read(Path::new("f"), &long[..], 12).unwrap_err().to_string();
        assert_eq!(long, "f: byte 12: more bytes than the header announces");
    }

    #[test]
    fn every_truncation_is_an_error() {
        let bytes = file(&[2, 2, 3], b"abcdefghijkl");
        parse(&bytes).unwrap();
        for len in 0..bytes.len() {
            assert!(parse(&bytes[..len]).is_err(), "{len} bytes");
        }
    }

    #[test]
    fn every_flipped_bit_of_the_header_is_an_error_or_consistent() {
        let good = file(&[2, 2, 3], b"abcdefghijkl");
        for bit in 0..8 * 16 {
            let mut bytes = good.clone();
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Ok(tensor) = parse(&bytes) {
                let total: usize = tensor.dims().iter().product();
                assert_eq!(total, tensor.bytes().len(), "bit {bit}");
                assert_eq!(4 + 4 * tensor.dims().len() + total, bytes.len(), "bit {bit}");
            }
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&bytes);
            let _ = parse(&[&GZIP_MAGIC, &bytes[..]].concat());
            let _ = parse(&[&GZIP_MAGIC, &[8, 0][..], &bytes].concat());
        }

        #[test]
        fn what_is_accepted_is_the_whole_file(
            dims in prop::collection::vec(0u32..4, 0..6),
            elements in prop::collection::vec(any::<u8>(), 0..40),
        ) {
            let total: u32 = dims.iter().product();
            match parse(&file(&dims, &elements)) {
                Ok(tensor) => {
                    prop_assert_eq!(total as usize, elements.len());
                    prop_assert_eq!(tensor.bytes(), &elements[..]);
                }
                Err(_) => prop_assert!(
                    total == 0 || total as usize != elements.len() || !(1..=4).contains(&dims.len())
                ),
            }
        }
    }

    #[test]
    fn a_directory_is_read_under_either_name() {
        let dir = Temporary::new("names");
        assert_eq!(
            dir.message(),
            format!("{}: no file train-images-idx3-ubyte, plain or with .gz", dir.0.display())
        );
        dir.write("train-images.idx3-ubyte", &file(&[3, 1, 2], &[0, 1, 2, 3, 254, 255]));
        dir.write("train-labels-idx1-ubyte", &file(&[3], &[0, 2, 1]));
        let (train, test) = dir.read().unwrap();
        assert!(test.is_none());
        assert_eq!(train.inputs().as_slice(), [0.0, 1.0, 2.0, 3.0, 254.0, 255.0]);
        assert_eq!((train.labels(), train.classes()), (&[0, 2, 1][..], 3));
        assert_eq!(train.range(), (0.0, 255.0));
        assert!(train.name().starts_with("sal-names-"));

        // A directory of that name, as some archives unpack to, is not the file.
        fs::create_dir(dir.0.join("t10k-images-idx3-ubyte")).unwrap();
        dir.write("t10k-labels-idx1-ubyte", &file(&[1], &[2]));
        assert!(dir.message().contains("no file t10k-images-idx3-ubyte"), "{}", dir.message());
        dir.write("t10k-images.idx3-ubyte", &file(&[1, 2, 1], &[7, 8]));
        let test = dir.read().unwrap().1.unwrap();
        assert_eq!((test.labels(), test.classes(), test.features()), (&[2][..], 3, 2));
    }

    #[test]
    fn parts_that_do_not_fit_together_are_errors() {
        let dir = Temporary::new("parts");
        dir.write("train-images-idx3-ubyte", &file(&[2, 1, 2], &[0, 1, 2, 3]));
        dir.write("train-labels-idx1-ubyte", &file(&[3], &[0, 0, 0]));
        let message = dir.message();
        assert_eq!(
            message,
            "train-labels-idx1-ubyte: byte 4: 3 labels, but 2 images in train-images-idx3-ubyte"
        );
        dir.write("train-labels-idx1-ubyte", &file(&[2, 1], &[0, 0]));
        assert_eq!(dir.message(), "train-labels-idx1-ubyte: byte 3: 2 dimensions, labels want 1");
        dir.write("train-labels-idx1-ubyte", &file(&[2], &[0, 0]));
        assert_eq!(dir.read().unwrap().0.classes(), 2); // never fewer

        dir.write("t10k-images-idx3-ubyte", &file(&[1, 3], &[0, 1, 2]));
        dir.write("t10k-labels-idx1-ubyte", &file(&[1], &[2]));
        assert_eq!(
            dir.message(),
            "t10k-labels-idx1-ubyte: byte 8: label of sample 0: got 2, want less than 2"
        );
        dir.write("t10k-labels-idx1-ubyte", &file(&[1], &[1]));
        assert_eq!(
            dir.message(),
            "t10k-images-idx3-ubyte: byte 8: images of 3 bytes, those of the training part have 2"
        );
        dir.write("train-images-idx3-ubyte", &file(&[2], &[0, 1]));
        assert_eq!(
            dir.message(),
            "train-images-idx3-ubyte: byte 3: 1 dimension, images want 2 to 4"
        );
        assert!(matches!(read_directory(dir.0.join("nowhere")), Err(DataError::Io { .. })));
        assert!(matches!(
            Tensor::open(&dir.0),
            Err(DataError::Io { .. } | DataError::Format { .. })
        ));
    }

    #[cfg(not(feature = "gzip"))]
    #[test]
    fn a_compressed_file_names_the_feature_that_it_needs() {
        assert_eq!(
            message(&[0x1f, 0x8b, 8, 0]),
            "f: byte 0: compressed with gzip, which needs the feature `gzip` of this crate"
        );
    }

    #[cfg(feature = "gzip")]
    mod gzip {
        use super::*;
        use std::io::Write;

        fn compressed(bytes: &[u8]) -> Vec<u8> {
            let mut encoder =
                flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
            encoder.write_all(bytes).unwrap();
            encoder.finish().unwrap()
        }

        #[test]
        fn compressed_is_told_by_the_bytes_and_not_by_the_name() {
            let dir = Temporary::new("gzip");
            let (images, labels) = (file(&[2, 1, 1], &[3, 4]), file(&[2], &[0, 1]));
            dir.write("train-images-idx3-ubyte", &compressed(&images));
            dir.write("train-labels-idx1-ubyte.gz", &labels);
            dir.write("t10k-images.idx3-ubyte.gz", &compressed(&images));
            dir.write("t10k-labels-idx1-ubyte.gz", &compressed(&labels));
            let (train, test) = dir.read().unwrap();
            assert_eq!(train.inputs().as_slice(), [3.0, 4.0]);
            assert_eq!(test.unwrap().labels(), [0, 1]);
        }

        #[test]
        fn members_that_follow_one_another_are_one_file() {
            let bytes = file(&[4], b"abcd");
            let two = [compressed(&bytes[..6]), compressed(&bytes[6..])].concat();
            assert_eq!(parse(&two).unwrap().bytes(), b"abcd");
        }

        #[test]
        fn damage_is_an_error() {
            let bytes = file(&[4, 4], b"abcdefghijklmnop");
            let good = compressed(&bytes);
            parse(&good).unwrap();
            for len in 0..good.len() {
                assert!(parse(&good[..len]).is_err(), "{len} bytes");
            }
            for bit in 0..8 * good.len() {
                let mut bad = good.clone();
                bad[bit / 8] ^= 1 << (bit % 8);
                // Time, flags and system in the header are not covered by the checksum.
                if let Ok(tensor) = parse(&bad) {
                    assert_eq!(tensor.bytes(), b"abcdefghijklmnop", "bit {bit}");
                }
            }
            assert!(message(&[&good[..], b"rest"].concat()).contains("damaged gzip file"));
            assert_eq!(
                message(&compressed(&bytes[..20])),
                "f: byte 20: the file ends after 8 of 16 bytes of the elements"
            );
            assert_eq!(
                message(&compressed(&[&bytes[..], b"q"].concat())),
                "f: byte 28: more bytes than the header announces"
            );
            assert_eq!(
                message(&good[..good.len() - 8]),
                "f: byte 28: damaged gzip file: unexpected end of file"
            );
        }

        #[test]
        fn a_header_that_promises_a_gibibyte_fails_at_the_last_byte() {
            let message = message(&compressed(&file(&[1 << 30], b"0123456789")));
            assert_eq!(
                message,
                "f: byte 18: the file ends after 10 of 1073741824 bytes of the elements"
            );
        }

        #[test]
        fn a_bomb_is_read_no_further_than_its_header() {
            let bomb = compressed(&file(&[4], &vec![0; 50 << 20]));
            assert_eq!(message(&bomb), "f: byte 12: more bytes than the header announces");
        }

        proptest! {
            #[test]
            fn arbitrary_bytes_in_gzip_never_panic(
                bytes in prop::collection::vec(any::<u8>(), 0..100),
            ) {
                let _ = parse(&compressed(&bytes));
                let _ = parse(&compressed(&file(&[3, 3], &bytes)));
            }
        }
    }
}
