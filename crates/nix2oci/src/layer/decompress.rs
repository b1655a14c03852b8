//! A layer's tar out of its blob.

use std::fmt;
use std::io::{self, BufRead, Read};

#[cfg(feature = "zstd")]
use crate::decode::ZstdReader;
use crate::decode::{GzipReader, Trailing};
use crate::oci::MediaType;

/// How bytes are compressed, whatever the level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Codec {
    /// Not at all.
    None,
    /// gzip, RFC 1952.
    Gzip,
    /// zstd, RFC 8878.
    Zstd,
}

impl Codec {
    /// Bytes that [`Codec::sniff`] needs to see.
    pub const MAGIC_LEN: usize = 4;

    /// Returns how the bytes are compressed that begin with `prefix`, of which
    /// four are enough.
    ///
    /// A zstd stream may begin with a skippable frame, as zstd:chunked and
    /// pzstd write them.
    pub fn sniff(prefix: &[u8]) -> Self {
        match prefix {
            [0x1f, 0x8b, ..] => Self::Gzip,
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Self::Zstd,
            _ => Self::None,
        }
    }

    /// Returns how a layer of this media type is compressed, or `None` if it
    /// is not the media type of a layer's tar.
    ///
    /// Docker's types count as the OCI ones they were the model of; Docker's
    /// zstd type is written by BuildKit and read by containerd.
    pub fn of_media_type(media_type: &MediaType) -> Option<Self> {
        match media_type {
            MediaType::ImageLayer | MediaType::ImageLayerNonDistributable => Some(Self::None),
            MediaType::ImageLayerGzip | MediaType::ImageLayerNonDistributableGzip => {
                Some(Self::Gzip)
            }
            MediaType::ImageLayerZstd | MediaType::ImageLayerNonDistributableZstd => {
                Some(Self::Zstd)
            }
            MediaType::Other(text) => match text.as_str() {
                "application/vnd.docker.image.rootfs.diff.tar" => Some(Self::None),
                "application/vnd.docker.image.rootfs.diff.tar.gzip"
                | "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip" => Some(Self::Gzip),
                "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Self::Zstd),
                _ => None,
            },
            _ => None,
        }
    }

    /// Returns the media type of a layer compressed so.
    pub fn media_type(self) -> MediaType {
        match self {
            Self::None => MediaType::ImageLayer,
            Self::Gzip => MediaType::ImageLayerGzip,
            Self::Zstd => MediaType::ImageLayerZstd,
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Gzip => "gzip",
            Self::Zstd => "zstd",
        })
    }
}

/// The compressed stream is whole, and something that is not part of it
/// follows.
///
/// [`Decoder`] fails with it, inside an [`io::Error`], once all bytes of the
/// stream were handed out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are bytes after the end of the {codec} stream")]
pub struct TrailingBytes {
    /// What was decoded.
    pub codec: Codec,
}

/// A reader of decompressed bytes.
///
/// Reads all members of a gzip file and all frames of a zstd file, skippable
/// ones included. Memory does not grow with the size of the stream: gzip needs
/// 32 KiB; a zstd frame that asks for a window over 128 MiB is refused, as
/// `zstd -d` does.
///
/// # Errors
///
/// Everything but a failure of the inner reader is of the kinds
/// [`io::ErrorKind::InvalidData`], [`io::ErrorKind::InvalidInput`] or
/// [`io::ErrorKind::UnexpectedEof`].
pub struct Decoder<R: BufRead>(Inner<R>);

enum Inner<R: BufRead> {
    None(R),
    Gzip(GzipReader<R>),
    #[cfg(feature = "zstd")]
    Zstd(ZstdReader<R>),
}

impl<R: BufRead> Decoder<R> {
    /// Starts to decompress `inner`.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::FeatureMissing`](crate::ErrorKind::FeatureMissing) if this
    /// build cannot decompress `codec`.
    pub fn new(codec: Codec, inner: R) -> crate::error::Result<Self> {
        Ok(Self(match codec {
            Codec::None => Inner::None(inner),
            Codec::Gzip => Inner::Gzip(GzipReader::new(inner)),
            #[cfg(feature = "zstd")]
            Codec::Zstd => Inner::Zstd(ZstdReader::new(inner)?),
            #[cfg(not(feature = "zstd"))]
            Codec::Zstd => {
                return Err(crate::error::ErrorKind::FeatureMissing {
                    what: "reading zstd".to_owned(),
                    feature: "zstd",
                }
                .into());
            }
        }))
    }

    /// Returns the inner reader, wherever it stands.
    pub fn into_inner(self) -> R {
        match self.0 {
            Inner::None(inner) => inner,
            Inner::Gzip(reader) => reader.into_inner(),
            #[cfg(feature = "zstd")]
            Inner::Zstd(reader) => reader.into_inner(),
        }
    }
}

impl<R: BufRead> Read for Decoder<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let (codec, result) = match &mut self.0 {
            Inner::None(inner) => (Codec::None, inner.read(buf)),
            Inner::Gzip(reader) => (Codec::Gzip, reader.read(buf)),
            #[cfg(feature = "zstd")]
            Inner::Zstd(reader) => (Codec::Zstd, reader.read(buf)),
        };
        result.map_err(|error| match error.get_ref() {
            Some(cause) if cause.is::<Trailing>() => {
                io::Error::new(io::ErrorKind::InvalidData, TrailingBytes { codec })
            }
            _ => error,
        })
    }
}

impl<R: BufRead> fmt::Debug for Decoder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Decoder")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const TEXT: &[u8] = b"layers of a cake, layers of an image";

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn decode(codec: Codec, bytes: &[u8]) -> (Vec<u8>, io::Result<()>) {
        let mut out = Vec::new();
        // A buffer of three bytes: every boundary falls inside of something.
        let inner = io::BufReader::with_capacity(3, bytes);
        let mut decoder = Decoder::new(codec, inner).unwrap();
        let result = decoder.read_to_end(&mut out).map(drop);
        (out, result)
    }

    fn is_trailing(result: io::Result<()>) -> bool {
        result.unwrap_err().downcast::<TrailingBytes>().is_ok()
    }

    /// The laws that hold for each codec: `whole` is [`TEXT`], compressed.
    fn laws(codec: Codec, whole: &[u8], empty: &[u8]) {
        assert_eq!(Codec::sniff(whole), codec);
        assert_eq!(Codec::of_media_type(&codec.media_type()), Some(codec));

        let (out, result) = decode(codec, whole);
        result.unwrap();
        assert_eq!(out, TEXT);

        let (out, result) = decode(codec, &[whole, empty, whole].concat());
        result.unwrap();
        assert_eq!(out, [TEXT, TEXT].concat());

        for cut in 0..whole.len() {
            let (_, result) = decode(codec, &whole[..cut]);
            result.expect_err("a cut stream");
        }
        for tail in [&b"x"[..], &[0; 20], b"longer than a magic number"] {
            let (out, result) = decode(codec, &[whole, tail].concat());
            assert_eq!(out, TEXT);
            assert!(is_trailing(result), "{codec} with {tail:?}");
        }
    }

    #[test]
    fn gzip_members_are_read_one_after_another() {
        laws(Codec::Gzip, &gzip(TEXT), &gzip(b""));
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn zstd_frames_are_read_one_after_another() {
        let frame = |bytes: &[u8]| {
            let mut out = Vec::with_capacity(200);
            zstd_safe::compress(&mut out, bytes, 3).unwrap();
            out
        };
        laws(Codec::Zstd, &frame(TEXT), &frame(b""));

        let skippable = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"abc"].concat();
        let (out, result) = decode(
            Codec::Zstd,
            &[&skippable, &frame(TEXT)[..], &skippable].concat(),
        );
        result.unwrap();
        assert_eq!(out, TEXT);
        assert_eq!(Codec::sniff(&skippable), Codec::Zstd);
    }

    #[cfg(feature = "zstd")]
    #[test]
    fn a_huge_zstd_window_is_refused() {
        // Frame header: no content size, window descriptor of exponent 21,
        // that is 2^31 bytes.
        let bytes = [0x28, 0xb5, 0x2f, 0xfd, 0x00, 21 << 3, 0x01, 0x00, 0x00];
        let (_, result) = decode(Codec::Zstd, &bytes);
        let error = result.unwrap_err().to_string();
        assert!(error.contains("memory"), "{error}");
    }

    #[test]
    fn other_bytes_are_not_compressed() {
        for bytes in [&b""[..], b"\x1f", b"(\xb5/", b"PK\x03\x04", &[0; 8]] {
            assert_eq!(Codec::sniff(bytes), Codec::None);
        }
        assert_eq!(Codec::of_media_type(&MediaType::ImageConfig), None);
    }

    proptest::proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            for codec in [Codec::None, Codec::Gzip, Codec::Zstd] {
                if let Ok(decoder) = Decoder::new(codec, bytes.as_slice()) {
                    let read = io::copy(&mut decoder.take(1 << 20), &mut io::sink());
                    proptest::prop_assert!(codec != Codec::None || read.is_ok());
                }
            }
        }
    }
}
