//! Header blocks: name and value lists in one zlib stream per direction, primed with SPDY's dictionary.

use bytes::{BufMut, BytesMut};
use flate2::{Compress, Compression, Decompress, FlushCompress, FlushDecompress, Status};

/// SPDY/3's dictionary, a constant of the protocol.
const DICTIONARY: &[u8] = include_bytes!("dictionary.bin");
/// What a block may grow to.
const MAX_BLOCK: usize = 64 * 1024;
const MAX_HEADERS: u32 = 256;

#[derive(Debug, thiserror::Error)]
pub enum HeaderError {
    #[error("header block: {0}")]
    Decompress(#[from] flate2::DecompressError),
    #[error("header block: {0}")]
    Compress(#[from] flate2::CompressError),
    #[error("header block grows beyond {MAX_BLOCK} bytes")]
    TooLarge,
    #[error("header block ends too soon")]
    Truncated,
    #[error("header block has {0} headers")]
    TooMany(u32),
}

pub type Headers = Vec<(String, String)>;

/// Looks a header up; names are lower case on the wire.
pub fn find<'a>(headers: &'a Headers, name: &str) -> Option<&'a str> {
    headers.iter().find(|(have, _)| have.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// The reading side of one connection.
pub struct Reader {
    inflate: Decompress,
}

impl Default for Reader {
    fn default() -> Self {
        Self { inflate: Decompress::new(true) }
    }
}

impl Reader {
    pub fn read(&mut self, block: &[u8]) -> Result<Headers, HeaderError> {
        parse(&self.decompress(block)?)
    }

    fn decompress(&mut self, block: &[u8]) -> Result<Vec<u8>, HeaderError> {
        let mut out = Vec::with_capacity(4096);
        let start = self.inflate.total_in();
        loop {
            // No more was taken than the block has.
            let consumed = (self.inflate.total_in() - start) as usize;
            let rest = &block[consumed..];
            let before = out.len();
            match self.inflate.decompress_vec(rest, &mut out, FlushDecompress::Sync) {
                Ok(Status::StreamEnd) => return Ok(out),
                Ok(Status::Ok | Status::BufError) => {
                    let all_read = (self.inflate.total_in() - start) as usize == block.len();
                    if all_read && out.len() < out.capacity() {
                        return Ok(out);
                    }
                    if !all_read && out.len() == before && out.len() < out.capacity() {
                        return Err(HeaderError::Truncated);
                    }
                    if out.len() >= MAX_BLOCK {
                        return Err(HeaderError::TooLarge);
                    }
                    out.reserve(4096);
                }
                Err(error) if error.needs_dictionary().is_some() => {
                    self.inflate.set_dictionary(DICTIONARY)?;
                }
                Err(error) => return Err(error.into()),
            }
        }
    }
}

fn parse(bytes: &[u8]) -> Result<Headers, HeaderError> {
    let mut rest = bytes;
    let word = |rest: &mut &[u8]| {
        let (head, tail) = rest.split_at_checked(4).ok_or(HeaderError::Truncated)?;
        *rest = tail;
        Ok::<u32, HeaderError>(u32::from_be_bytes([head[0], head[1], head[2], head[3]]))
    };
    let count = word(&mut rest)?;
    if count > MAX_HEADERS {
        return Err(HeaderError::TooMany(count));
    }
    let mut headers = Headers::new();
    for _ in 0..count {
        let mut text = || {
            let length = word(&mut rest)? as usize;
            let (head, tail) = rest.split_at_checked(length).ok_or(HeaderError::Truncated)?;
            rest = tail;
            Ok::<String, HeaderError>(String::from_utf8_lossy(head).into_owned())
        };
        let name = text()?;
        headers.push((name, text()?));
    }
    Ok(headers)
}

/// The writing side of one connection.
pub struct Writer {
    deflate: Compress,
}

impl Writer {
    pub fn new() -> Result<Self, HeaderError> {
        let mut deflate = Compress::new(Compression::default(), true);
        deflate.set_dictionary(DICTIONARY)?;
        Ok(Self { deflate })
    }

    pub fn write(&mut self, headers: &[(&str, &str)]) -> Result<Vec<u8>, HeaderError> {
        let mut plain = BytesMut::new();
        plain.put_u32(headers.len() as u32);
        for text in headers.iter().flat_map(|(name, value)| [name, value]) {
            plain.put_u32(text.len() as u32);
            plain.put_slice(text.as_bytes());
        }
        let mut out = Vec::with_capacity(plain.len() + 64);
        let start = self.deflate.total_in();
        loop {
            let consumed = (self.deflate.total_in() - start) as usize;
            self.deflate.compress_vec(&plain[consumed..], &mut out, FlushCompress::Sync)?;
            let all_read = (self.deflate.total_in() - start) as usize == plain.len();
            if all_read && out.len() < out.capacity() {
                return Ok(out);
            }
            out.reserve(1024);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn blocks_share_one_stream_per_direction() {
        let (mut writer, mut reader) = (Writer::new().expect("primed"), Reader::default());
        for round in 0..5 {
            let value = round.to_string().repeat(round * 100);
            let block = writer.write(&[("streamtype", "stdin"), ("x", &value)]).expect("written");
            let read = reader.read(&block).expect("read");
            assert_eq!(find(&read, "StreamType"), Some("stdin"));
            assert_eq!(find(&read, "x"), Some(value.as_str()));
        }
    }

    #[test]
    fn bombs_are_refused() {
        let mut writer = Writer::new().expect("primed");
        let block = writer.write(&[("x", &"0".repeat(10 * MAX_BLOCK))]).expect("written");
        assert!(block.len() < MAX_BLOCK / 8);
        assert!(matches!(Reader::default().read(&block), Err(HeaderError::TooLarge)));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = Reader::default().read(&bytes);
            let _ = parse(&bytes);
        }
    }
}
