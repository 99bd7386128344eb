//! Units behind a length field, with the names and rules of tokio-util's [`LengthDelimitedCodec`].

use bytes::{Bytes, BytesMut};
use tokio_util::codec::{Decoder, Encoder, LengthDelimitedCodec};

use crate::cut::{Cut, Input};
use crate::{Fault, Unit};

/// Format of the length field. Each name means what it means for [`LengthDelimitedCodec`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Length {
    /// Bytes before the length field.
    pub length_field_offset: usize,
    /// Bytes of the length field, 1 to 8.
    pub length_field_length: usize,
    /// Added to the value of the field; the sum is the length of what follows the skipped bytes.
    pub length_adjustment: isize,
    /// Bytes to skip at the beginning; `None` skips everything up to the end of the length field.
    pub num_skip: Option<usize>,
    /// Byte order of the field.
    pub big_endian: bool,
    /// Highest value of the field.
    pub max_frame_length: usize,
    /// Bytes to drop at the end of each unit.
    pub strip: usize,
}

impl Default for Length {
    /// A big-endian length of 4 bytes, units of up to 8 MiB, as tokio-util has it.
    fn default() -> Self {
        Self {
            length_field_offset: 0,
            length_field_length: 4,
            length_adjustment: 0,
            num_skip: None,
            big_endian: true,
            max_frame_length: 8 << 20,
            strip: 0,
        }
    }
}

impl Length {
    /// Appends `data` behind its length field. As in tokio-util, nothing stands before the field.
    ///
    /// # Panics
    /// If `data` is longer than `max_frame_length` or does not fit the field.
    pub fn encode(&self, data: Bytes, out: &mut BytesMut) {
        self.codec().encode(data, out).expect("data that fits its length field");
    }

    pub(crate) const fn check(&self) -> Result<(), &'static str> {
        if self.length_field_length == 0 || self.length_field_length > 8 {
            return Err("length_field_length must be 1 to 8");
        }
        let max = self.max_frame_length;
        if max == 0 {
            return Err("max_frame_length must be at least 1");
        }
        let is_adjusted_beyond = self.length_adjustment.unsigned_abs() > max;
        if self.length_field_offset > max
            || is_adjusted_beyond
            || matches!(self.num_skip, Some(skip) if skip > max)
        {
            return Err(
                "length_field_offset, length_adjustment and num_skip must not be greater than max_frame_length",
            );
        }
        Ok(())
    }

    fn codec(&self) -> LengthDelimitedCodec {
        let mut builder = LengthDelimitedCodec::builder();
        builder
            .length_field_offset(self.length_field_offset)
            .length_field_length(self.length_field_length)
            .length_adjustment(self.length_adjustment)
            .max_frame_length(self.max_frame_length);
        if let Some(num_skip) = self.num_skip {
            builder.num_skip(num_skip);
        }
        if !self.big_endian {
            builder.little_endian();
        }
        builder.new_codec()
    }

    pub(crate) fn cut(&self) -> CutLengths {
        CutLengths { codec: self.codec(), strip: self.strip }
    }
}

/// Cuts units with tokio-util's codec. A unit without content is a keep-alive and is not delivered.
#[derive(Debug)]
pub(crate) struct CutLengths {
    /// Finds the length of a unit, and removes the head that is not part of it.
    codec: LengthDelimitedCodec,
    /// Bytes at the end of a unit that are not delivered; a shorter unit is skipped.
    strip: usize,
}

impl Cut for CutLengths {
    fn next(&mut self, input: &mut Input) -> Result<Option<Unit>, Fault> {
        loop {
            let before = input.buffer.len();
            let decoded = self.codec.decode(&mut input.buffer).map_err(|error| fault(&error))?;
            let head = before - input.buffer.len() - decoded.as_ref().map_or(0, BytesMut::len);
            input.counts.bytes += head as u64;
            let Some(mut data) = decoded else {
                return Ok(None);
            };
            if head + data.len() == 0 {
                return Err(Fault::Length(
                    "a length field that says that the unit has no bytes, not even the field".to_owned(),
                ));
            }
            match data.len().checked_sub(self.strip) {
                None => input.counts.skipped += data.len() as u64,
                Some(0) => input.counts.bytes += data.len() as u64,
                Some(length) => {
                    input.counts.bytes += data.len() as u64;
                    data.truncate(length);
                    return Ok(Some(input.unit(data)));
                }
            }
        }
    }
}

#[cold]
fn fault(error: &std::io::Error) -> Fault {
    Fault::Length(format!("length field: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Deframer, Framing};

    fn units(length: Length, stream: &[u8]) -> (Vec<Bytes>, Deframer) {
        let mut deframer = Deframer::new(&Framing::Length(length));
        deframer.push(stream);
        let units = std::iter::from_fn(|| deframer.next_unit().unwrap()).map(|unit| unit.data).collect();
        (units, deframer)
    }

    #[test]
    fn the_names_mean_what_they_mean_in_tokio_util() {
        // From the documentation of tokio-util: a header of one byte on each side of the field.
        let around = Length {
            length_field_offset: 1,
            length_field_length: 2,
            length_adjustment: 1,
            num_skip: Some(3),
            ..Length::default()
        };
        let stream = b"\xCA\x00\x0B\xFEHello world";
        assert_eq!(units(around, stream).0, [&b"\xFEHello world"[..]]);
        let whole = Length {
            length_field_length: 2,
            length_adjustment: -3,
            length_field_offset: 1,
            num_skip: Some(4),
            big_endian: false,
            ..Length::default()
        };
        let whole = Length { length_adjustment: -4, ..whole };
        assert_eq!(units(whole, b"\xCA\x0F\x00\xFEHello world").0, [&b"Hello world"[..]]);
    }

    #[test]
    fn the_end_is_stripped_and_units_without_content_are_not_delivered() {
        let length = Length { length_field_length: 1, strip: 2, ..Length::default() };
        let (found, deframer) = units(length, b"\x05abcde\x00\x02fg\x01h\x04ijkl\x09m");
        // The unit of one byte is shorter than what is stripped. So is the empty one, but it has nothing to skip.
        assert_eq!(found, [&b"abc"[..], b"ij"]);
        let counts = deframer.counts();
        assert_eq!((counts.units, counts.bytes, counts.skipped, deframer.pending()), (2, 17, 1, 1));
    }

    #[test]
    fn lengths_that_cannot_be_end_the_stream() {
        let refused = |length: Length, stream: &[u8]| {
            let mut deframer = Deframer::new(&Framing::Length(length));
            deframer.push(stream);
            let error = deframer.next_unit().unwrap_err();
            assert_eq!(deframer.next_unit(), Err(error.clone()));
            assert_eq!(error.bytes, stream);
            error.to_string()
        };
        let small = Length { length_field_length: 1, max_frame_length: 10, ..Length::default() };
        assert!(refused(small.clone(), b"\x0Babc").starts_with("length field: frame size too big at byte 0"));
        let negative = Length { length_adjustment: -3, ..small.clone() };
        assert!(refused(negative, b"\x02abc").contains("overflow"));
        let endless = Length { num_skip: Some(0), ..small };
        assert!(refused(endless, b"\x00abc").contains("not even the field"));
    }

    #[test]
    fn what_is_encoded_is_decoded() {
        let length = Length { big_endian: false, length_field_length: 3, ..Length::default() };
        let mut stream = BytesMut::new();
        for data in ["one", "", "three"] {
            length.encode(Bytes::from_static(data.as_bytes()), &mut stream);
        }
        assert_eq!(stream[..], b"\x03\0\0one\0\0\0\x05\0\0three"[..]);
        assert_eq!(units(length, &stream).0, ["one", "three"]);
    }
}
