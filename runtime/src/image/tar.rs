//! A reader of tar streams that trusts nothing: every size is limited before it is believed.

use std::collections::BTreeMap;
use std::io::{self, Read};

use super::{Error, Result};

const BLOCK: usize = 512;
/// Longest extension (long name, long link, PAX records).
const MAX_EXTENSION: u64 = 1 << 20;
const XATTR: &str = "SCHILY.xattr.";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    File,
    HardLink,
    Symlink,
    CharacterDevice,
    BlockDevice,
    Directory,
    Fifo,
}

#[derive(Debug, Clone)]
pub struct Entry {
    pub path: Vec<u8>,
    pub kind: Kind,
    pub link: Vec<u8>,
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// Seconds and nanoseconds.
    pub modified: (i64, u32),
    pub device: (u32, u32),
    pub xattrs: Vec<(String, Vec<u8>)>,
}

/// Yields entries; the content of one must be read or is skipped before the next.
#[derive(Debug)]
pub struct Reader<R> {
    inner: R,
    remaining: u64,
    padding: u64,
    global: BTreeMap<String, Vec<u8>>,
}

impl<R: Read> Reader<R> {
    pub fn new(inner: R) -> Self {
        Reader { inner, remaining: 0, padding: 0, global: BTreeMap::new() }
    }

    /// The next entry, or `None` at the end of the archive.
    pub fn next_entry(&mut self) -> Result<Option<Entry>> {
        self.skip()?;
        let mut extensions = Extensions::default();
        loop {
            let Some(header) = self.header()? else { return Ok(None) };
            let size = number(&header[124..136])?;
            match header[156] {
                b'x' => extensions.records.extend(records(&self.extension(size)?)?),
                b'g' => {
                    let records = records(&self.extension(size)?)?;
                    self.global.extend(records);
                }
                b'L' => extensions.name = Some(text(&self.extension(size)?)),
                b'K' => extensions.link = Some(text(&self.extension(size)?)),
                kind => {
                    let records = self.global.clone().into_iter().chain(extensions.records).collect();
                    let entry = entry(&header, kind, size, records, extensions.name, extensions.link)?;
                    let content = if matches!(entry.kind, Kind::File) { entry.size } else { 0 };
                    self.remaining = content;
                    self.padding = padding(content);
                    return Ok(Some(entry));
                }
            }
        }
    }

    /// Reads past the end marker, so that a hash over the stream covers everything.
    pub fn finish(mut self) -> io::Result<R> {
        io::copy(&mut self.inner, &mut io::sink())?;
        Ok(self.inner)
    }

    fn skip(&mut self) -> Result<()> {
        let rest = self.remaining + self.padding;
        self.remaining = 0;
        self.padding = 0;
        let skipped =
            io::copy(&mut Read::by_ref(&mut self.inner).take(rest), &mut io::sink()).map_err(read)?;
        if skipped == rest { Ok(()) } else { Err(Error::Truncated) }
    }

    fn header(&mut self) -> Result<Option<[u8; BLOCK]>> {
        let mut header = [0; BLOCK];
        let mut filled = 0;
        while filled < BLOCK {
            match self.inner.read(&mut header[filled..]).map_err(read)? {
                // Some writers leave the end marker out.
                0 if filled == 0 => return Ok(None),
                0 => return Err(Error::Truncated),
                count => filled += count,
            }
        }
        if header.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        let expected = number(&header[148..156])?;
        let sum: u64 = header
            .iter()
            .enumerate()
            .map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u64::from(*byte) })
            .sum();
        if sum != expected {
            return Err(Error::Archive("header has a wrong checksum".to_owned()));
        }
        Ok(Some(header))
    }

    fn extension(&mut self, size: u64) -> Result<Vec<u8>> {
        if size > MAX_EXTENSION {
            return Err(Error::TooLarge { limit: MAX_EXTENSION, unit: "bytes of header extensions" });
        }
        let mut data = vec![0; size as usize];
        self.inner.read_exact(&mut data).map_err(read)?;
        self.padding = padding(size);
        self.skip()?;
        Ok(data)
    }
}

/// The content of the current entry.
impl<R: Read> Read for Reader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(usize::try_from(self.remaining).unwrap_or(usize::MAX));
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.inner.read(&mut buffer[..wanted])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.remaining -= count as u64;
        Ok(count)
    }
}

/// A short or broken stream is the archive's fault, anything else the system's.
pub fn read(error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::UnexpectedEof => Error::Truncated,
        io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::Other => {
            Error::Archive(error.to_string())
        }
        _ => Error::Io { doing: "read the archive".to_owned(), source: error },
    }
}

#[derive(Default)]
struct Extensions {
    records: BTreeMap<String, Vec<u8>>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
}

fn padding(size: u64) -> u64 {
    size.next_multiple_of(BLOCK as u64) - size
}

fn entry(
    header: &[u8; BLOCK],
    kind: u8,
    size: u64,
    records: BTreeMap<String, Vec<u8>>,
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
) -> Result<Entry> {
    let decimal = |key: &str| -> Option<u64> { std::str::from_utf8(records.get(key)?).ok()?.parse().ok() };
    let path = records.get("path").cloned().or(name).unwrap_or_else(|| header_path(header));
    let kind = match kind {
        // Old writers mark directories by a slash only.
        0 | b'0' if path.ends_with(b"/") => Kind::Directory,
        0 | b'0' | b'7' => Kind::File,
        b'1' => Kind::HardLink,
        b'2' => Kind::Symlink,
        b'3' => Kind::CharacterDevice,
        b'4' => Kind::BlockDevice,
        b'5' => Kind::Directory,
        b'6' => Kind::Fifo,
        other => return Err(Error::Archive(format!("entry of unknown type {:?}", char::from(other)))),
    };
    if records.keys().any(|key| key.starts_with("GNU.sparse.")) {
        return Err(Error::Archive("sparse files are not supported".to_owned()));
    }
    let id = |key: &str, field: &[u8]| -> Result<u32> {
        let value = decimal(key).map_or_else(|| number(field), Ok)?;
        u32::try_from(value).map_err(|_| Error::Archive(format!("{key} {value} is out of range")))
    };
    let device = |field: &[u8]| number(field).map(|value| value as u32);
    let xattrs = records
        .iter()
        .filter_map(|(key, value)| Some((key.strip_prefix(XATTR)?.to_owned(), value.clone())))
        .collect();
    Ok(Entry {
        kind,
        link: records.get("linkpath").cloned().or(link).unwrap_or_else(|| text(&header[157..257])),
        mode: (number(&header[100..108])? & 0o7777) as u32,
        uid: id("uid", &header[108..116])?,
        gid: id("gid", &header[116..124])?,
        size: decimal("size").unwrap_or(size),
        modified: match records.get("mtime").and_then(|value| time(value)) {
            Some(time) => time,
            None => (number(&header[136..148])? as i64, 0),
        },
        device: if matches!(kind, Kind::CharacterDevice | Kind::BlockDevice) {
            (device(&header[329..337])?, device(&header[337..345])?)
        } else {
            (0, 0)
        },
        xattrs,
        path,
    })
}

fn header_path(header: &[u8; BLOCK]) -> Vec<u8> {
    let name = text(&header[..100]);
    let prefix = if header[257..263] == *b"ustar\0" { text(&header[345..500]) } else { Vec::new() };
    if prefix.is_empty() { name } else { [prefix, name].join(&b'/') }
}

/// Up to the first zero byte.
fn text(field: &[u8]) -> Vec<u8> {
    field.iter().copied().take_while(|byte| *byte != 0).collect()
}

/// Octal digits, or for large values base 256 with the top bit set.
fn number(field: &[u8]) -> Result<u64> {
    let bad = || Error::Archive("header has a malformed number".to_owned());
    if field[0] & 0x80 != 0 {
        // 0xff marks negative numbers, which only times before 1970 could be.
        if field[0] == 0xff {
            return Ok(0);
        }
        return field
            .iter()
            .enumerate()
            .try_fold(0u64, |value, (at, byte)| {
                let byte = if at == 0 { byte & 0x7f } else { *byte };
                Some(value.checked_mul(256)? | u64::from(byte))
            })
            .ok_or_else(bad);
    }
    let text = std::str::from_utf8(field).map_err(|_| bad())?;
    let digits = text.trim_matches(|c: char| c == ' ' || c == '\0');
    if digits.is_empty() { Ok(0) } else { u64::from_str_radix(digits, 8).map_err(|_| bad()) }
}

/// PAX records: `<length> <key>=<value>\n`, length counting itself.
fn records(mut data: &[u8]) -> Result<BTreeMap<String, Vec<u8>>> {
    let bad = || Error::Archive("malformed PAX record".to_owned());
    let mut found = BTreeMap::new();
    while !data.is_empty() {
        let space = data.iter().position(|byte| *byte == b' ').ok_or_else(bad)?;
        let length: usize =
            std::str::from_utf8(&data[..space]).ok().and_then(|text| text.parse().ok()).ok_or_else(bad)?;
        if length <= space + 1 || length > data.len() || data[length - 1] != b'\n' {
            return Err(bad());
        }
        let record = &data[space + 1..length - 1];
        let equals = record.iter().position(|byte| *byte == b'=').ok_or_else(bad)?;
        let key = std::str::from_utf8(&record[..equals]).map_err(|_| bad())?;
        found.insert(key.to_owned(), record[equals + 1..].to_owned());
        data = &data[length..];
    }
    Ok(found)
}

/// `seconds[.fraction]`.
fn time(value: &[u8]) -> Option<(i64, u32)> {
    let text = std::str::from_utf8(value).ok()?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some((seconds.parse().ok()?, digits.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pax_records_override_the_header() {
        let found = records(b"30 mtime=1350244992.023960108\n11 path=a\0\n").expect("records");
        assert_eq!(time(&found["mtime"]), Some((1_350_244_992, 23_960_108)));
        assert!(records(b"5 a=b\n").is_err() && records(b"99 a=b\n").is_err());
    }

    #[test]
    fn numbers_are_octal_or_base_256() {
        assert_eq!(number(b"0000644\0").expect("octal"), 0o644);
        assert_eq!(number(&[0x80, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0]).expect("large"), 2 << 24);
        assert!(number(&[0x80 | 1; 12]).is_err());
    }

    proptest! {
        #[test]
        fn no_input_makes_it_panic(data in proptest::collection::vec(any::<u8>(), 0..4096)) {
            let mut reader = Reader::new(&data[..]);
            while let Ok(Some(_)) = reader.next_entry() {}
        }

        #[test]
        fn no_extension_makes_it_panic(data in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = records(&data);
            let _ = time(&data);
        }
    }
}
