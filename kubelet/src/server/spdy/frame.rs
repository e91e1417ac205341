//! SPDY/3 frames.
//!
//! ```text
//!   control: 1 version(15) type(16) | flags(8) length(24) | payload
//!   data:    0 stream(31)           | flags(8) length(24) | payload
//! ```

use bytes::{BufMut, Bytes, BytesMut};

pub const HEADER: usize = 8;
pub const FLAG_FIN: u8 = 1;
/// Control frames larger than this are an attack.
pub const MAX_CONTROL: usize = 64 * 1024;

const VERSION: u16 = 3;
const SYN_STREAM: u16 = 1;
const SYN_REPLY: u16 = 2;
const RST_STREAM: u16 = 3;
const PING: u16 = 6;
const GOAWAY: u16 = 7;

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum FrameError {
    #[error("SPDY version {0} is not 3")]
    Version(u16),
    #[error("control frame of {0} bytes is too large")]
    TooLarge(usize),
    #[error("control frame of type {0} is too short")]
    TooShort(u16),
}

/// The first eight bytes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Head {
    Control { kind: u16, flags: u8, length: usize },
    Data { stream: u32, fin: bool, length: usize },
}

impl Head {
    pub fn parse(bytes: [u8; HEADER]) -> Result<Self, FrameError> {
        let word = u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        let rest = u32::from_be_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]);
        let (flags, length) = (bytes[4], (rest & 0x00ff_ffff) as usize);
        if word & 0x8000_0000 == 0 {
            return Ok(Self::Data { stream: word, fin: flags & FLAG_FIN != 0, length });
        }
        let version = ((word >> 16) & 0x7fff) as u16;
        if version != VERSION {
            return Err(FrameError::Version(version));
        }
        if length > MAX_CONTROL {
            return Err(FrameError::TooLarge(length));
        }
        Ok(Self::Control { kind: (word & 0xffff) as u16, flags, length })
    }
}

/// A control frame read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Control {
    SynStream {
        stream: u32,
        fin: bool,
        block: Bytes,
    },
    Reset {
        stream: u32,
    },
    Ping {
        id: u32,
    },
    GoAway,
    /// Headers of a stream, read only for the compression's sake.
    Headers {
        block: Bytes,
    },
    /// Settings, window updates and whatever else needs no answer.
    Other,
}

impl Control {
    pub fn parse(kind: u16, flags: u8, payload: Bytes) -> Result<Self, FrameError> {
        let word = |at: usize| {
            let bytes = payload.get(at..at + 4).ok_or(FrameError::TooShort(kind))?;
            Ok(u32::from_be_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]))
        };
        let id = |at: usize| word(at).map(|word| word & 0x7fff_ffff);
        let from = |at: usize| {
            if payload.len() < at { Err(FrameError::TooShort(kind)) } else { Ok(payload.slice(at..)) }
        };
        Ok(match kind {
            SYN_STREAM => Self::SynStream { stream: id(0)?, fin: flags & FLAG_FIN != 0, block: from(10)? },
            SYN_REPLY | 8 => Self::Headers { block: from(4)? },
            RST_STREAM => Self::Reset { stream: id(0)? },
            PING => Self::Ping { id: word(0)? },
            GOAWAY => Self::GoAway,
            _ => Self::Other,
        })
    }
}

fn control(out: &mut BytesMut, kind: u16, flags: u8, length: usize) {
    out.put_u16(0x8000 | VERSION);
    out.put_u16(kind);
    put_length(out, flags, length);
}

fn put_length(out: &mut BytesMut, flags: u8, length: usize) {
    // Callers send nothing near 16 MiB.
    out.put_u32(u32::from(flags) << 24 | (length as u32 & 0x00ff_ffff));
}

pub fn syn_reply(out: &mut BytesMut, stream: u32, block: &[u8]) {
    control(out, SYN_REPLY, 0, 4 + block.len());
    out.put_u32(stream);
    out.put_slice(block);
}

pub fn reset(out: &mut BytesMut, stream: u32, status: u32) {
    control(out, RST_STREAM, 0, 8);
    out.put_u32(stream);
    out.put_u32(status);
}

pub fn ping(out: &mut BytesMut, id: u32) {
    control(out, PING, 0, 4);
    out.put_u32(id);
}

pub fn go_away(out: &mut BytesMut, last: u32) {
    control(out, GOAWAY, 0, 8);
    out.put_u32(last);
    out.put_u32(0);
}

pub fn data(out: &mut BytesMut, stream: u32, fin: bool, bytes: &[u8]) {
    out.put_u32(stream & 0x7fff_ffff);
    put_length(out, if fin { FLAG_FIN } else { 0 }, bytes.len());
    out.put_slice(bytes);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn frames_read_as_written() {
        let mut out = BytesMut::new();
        data(&mut out, 5, true, b"xy");
        let head: [u8; HEADER] = out[..HEADER].try_into().expect("eight bytes");
        assert_eq!(Head::parse(head), Ok(Head::Data { stream: 5, fin: true, length: 2 }));
        let mut out = BytesMut::new();
        ping(&mut out, 9);
        let head: [u8; HEADER] = out[..HEADER].try_into().expect("eight bytes");
        assert_eq!(Head::parse(head), Ok(Head::Control { kind: PING, flags: 0, length: 4 }));
        let payload = out.freeze().slice(HEADER..);
        assert_eq!(Control::parse(PING, 0, payload), Ok(Control::Ping { id: 9 }));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(head: [u8; HEADER], kind: u16, flags: u8, payload in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = Head::parse(head);
            let _ = Control::parse(kind, flags, Bytes::from(payload));
        }
    }
}
