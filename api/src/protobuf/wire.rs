//! Tags, varints and lengths.

use super::ProtobufError;

pub(super) const VARINT: u64 = 0;
pub(super) const FIXED64: u64 = 1;
pub(super) const BYTES: u64 = 2;
const START_GROUP: u64 = 3;
const END_GROUP: u64 = 4;
const FIXED32: u64 = 5;

/// A cursor over one message.
#[derive(Clone, Copy)]
pub(super) struct Reader<'a>(&'a [u8]);

/// The payload of one field.
#[derive(Clone, Copy, Debug)]
pub(super) enum Payload<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
    /// Of a wire type that no Kubernetes message uses.
    Other(u64),
}

impl Payload<'_> {
    pub(super) fn wire_type(&self) -> u64 {
        match self {
            Payload::Varint(_) => VARINT,
            Payload::Fixed64(_) => FIXED64,
            Payload::Bytes(_) => BYTES,
            Payload::Other(wire) => *wire,
        }
    }
}

type Read<T> = Result<T, ProtobufError>;

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next field's number and payload; None at the end.
    pub(super) fn field(&mut self) -> Read<Option<(u32, Payload<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = self.varint()?;
        let (number, wire) = (tag >> 3, tag & 7);
        let number = u32::try_from(number).ok().filter(|number| *number != 0 && *number < 1 << 29);
        let number = number.ok_or(ProtobufError::IllegalTag(tag >> 3, wire))?;
        let payload = match wire {
            VARINT => Payload::Varint(self.varint()?),
            FIXED64 => Payload::Fixed64(self.fixed64()?),
            BYTES => Payload::Bytes(self.bytes()?),
            FIXED32 => {
                self.take(4)?;
                Payload::Other(wire)
            }
            START_GROUP => {
                self.skip_group(number)?;
                Payload::Other(wire)
            }
            _ => return Err(ProtobufError::IllegalWireType(wire)),
        };
        Ok(Some((number, payload)))
    }

    /// Consumes a group of any depth; groups are long obsolete and never ours.
    fn skip_group(&mut self, number: u32) -> Read<()> {
        let mut open = vec![u64::from(number)];
        while let Some(innermost) = open.last().copied() {
            if open.len() > crate::decode::MAX_DEPTH {
                return Err(ProtobufError::TooDeep);
            }
            let tag = self.varint()?;
            match tag & 7 {
                VARINT => drop(self.varint()?),
                FIXED64 => drop(self.take(8)?),
                BYTES => drop(self.bytes()?),
                FIXED32 => drop(self.take(4)?),
                START_GROUP => open.push(tag >> 3),
                END_GROUP if tag >> 3 == innermost => drop(open.pop()),
                wire => return Err(ProtobufError::IllegalWireType(wire)),
            }
        }
        Ok(())
    }

    pub(super) fn varint(&mut self) -> Read<u64> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let (byte, rest) = self.0.split_first().ok_or(ProtobufError::UnexpectedEof)?;
            self.0 = rest;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(ProtobufError::Overflow)
    }

    fn fixed64(&mut self) -> Read<u64> {
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into().expect("eight bytes were taken")))
    }

    fn bytes(&mut self) -> Read<&'a [u8]> {
        let length = usize::try_from(self.varint()?).map_err(|_| ProtobufError::Overflow)?;
        self.take(length)
    }

    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(ProtobufError::UnexpectedEof)?;
        self.0 = rest;
        Ok(taken)
    }
}

/// A message being written.
#[derive(Default)]
pub(crate) struct Writer(Vec<u8>);

impl Writer {
    pub(crate) fn with_prefix(prefix: &[u8], capacity: usize) -> Self {
        let mut bytes = Vec::with_capacity(prefix.len() + capacity);
        bytes.extend_from_slice(prefix);
        Self(bytes)
    }

    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.0.extend_from_slice(bytes);
    }

    pub(crate) fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }

    pub(crate) fn tag(&mut self, number: u32, wire: u64) {
        self.varint(u64::from(number) << 3 | wire);
    }

    pub(crate) fn varint_field(&mut self, number: u32, value: u64) {
        self.tag(number, VARINT);
        self.varint(value);
    }

    pub(crate) fn fixed64_field(&mut self, number: u32, value: u64) {
        self.tag(number, FIXED64);
        self.raw(&value.to_le_bytes());
    }

    pub(crate) fn bytes_field(&mut self, number: u32, bytes: &[u8]) {
        self.tag(number, BYTES);
        self.varint(bytes.len() as u64);
        self.raw(bytes);
    }

    /// Writes a field whose length is known only when `content` has been written.
    pub(crate) fn nested<E>(
        &mut self,
        number: u32,
        content: impl FnOnce(&mut Self) -> Result<(), E>,
    ) -> Result<(), E> {
        self.tag(number, BYTES);
        // One byte holds the length of most messages; longer ones are moved up.
        let at = self.0.len();
        self.0.push(0);
        content(self)?;
        let length = self.0.len() - at - 1;
        let mut size = Writer::default();
        size.varint(length as u64);
        self.0.splice(at..=at, size.0);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_and_short_fields_are_read_back() {
        let mut writer = Writer::default();
        writer.varint_field(1, u64::MAX);
        writer
            .nested(300, |nested| -> Result<(), ()> {
                nested.bytes_field(2, &[7; 1000]);
                Ok(())
            })
            .expect("infallible");
        let bytes = writer.into_bytes();
        let mut reader = Reader::new(&bytes);
        assert!(matches!(reader.field(), Ok(Some((1, Payload::Varint(u64::MAX))))));
        let Ok(Some((300, Payload::Bytes(nested)))) = reader.field() else { panic!("nested") };
        let Ok(Some((2, Payload::Bytes(inner)))) = Reader::new(nested).field() else { panic!("inner") };
        assert_eq!(inner, [7; 1000]);
        assert!(reader.is_empty());
    }

    #[test]
    fn cut_and_overlong_input_is_refused() {
        assert_eq!(Reader::new(&[0x08]).field().expect_err("cut"), ProtobufError::UnexpectedEof);
        assert_eq!(Reader::new(&[0x0a, 5, 1]).field().expect_err("cut"), ProtobufError::UnexpectedEof);
        assert_eq!(Reader::new(&[0xff; 11]).field().expect_err("long"), ProtobufError::Overflow);
        assert_eq!(Reader::new(&[0x0f]).field().expect_err("type"), ProtobufError::IllegalWireType(7));
        assert!(Reader::new(&[0x0b; 600]).field().is_err());
    }
}
