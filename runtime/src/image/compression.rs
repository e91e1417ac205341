//! Recognising and undoing compression.

use std::io::{self, BufRead, BufReader, Read};

/// Largest zstd window taken, as a power of two: what decompression may hold in memory.
const ZSTD_WINDOW: u32 = 27;

/// Undoes gzip or zstd, told by the first bytes; anything else passes as it is.
pub fn decompress<'a, R: Read + 'a>(reader: R) -> io::Result<Box<dyn Read + 'a>> {
    let mut reader = BufReader::with_capacity(64 * 1024, reader);
    let start = reader.fill_buf()?;
    if start.starts_with(&[0x1f, 0x8b]) {
        Ok(Box::new(flate2::bufread::MultiGzDecoder::new(reader)))
    } else if start.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        let mut decoder = zstd::stream::read::Decoder::with_buffer(reader)?;
        decoder.window_log_max(ZSTD_WINDOW)?;
        Ok(Box::new(decoder))
    } else {
        Ok(Box::new(reader))
    }
}
