//! Integers in as few bytes as they need, and a cursor that reads them back.
//!
//! LEB128: seven bits to a byte, lowest first. Every value has one form only; padded forms are
//! refused, so that equal values are equal bytes.

/// Appends `value`.
pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        let [low, ..] = value.to_le_bytes();
        out.push(low | 0x80);
        value >>= 7;
    }
    let [low, ..] = value.to_le_bytes();
    out.push(low);
}

/// Maps small differences of either sign to small numbers: 0, -1, 1, -2, …
pub(crate) const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

/// Undoes [`zigzag`].
pub(crate) const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// The bytes ended early, or an integer is padded or out of range.
pub(crate) const TRUNCATED: &str = "ended before its announced content";
const INTEGER: &str = "an integer is padded or too large";

/// A cursor over columns.
#[derive(Debug)]
pub(crate) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// Bytes that are left: an upper bound for a count of anything that takes a byte or more.
    pub(crate) const fn left(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn byte(&mut self) -> Result<u8, &'static str> {
        let (&byte, rest) = self.0.split_first().ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(byte)
    }

    pub(crate) fn bytes(&mut self, n: usize) -> Result<&'a [u8], &'static str> {
        let (bytes, rest) = self.0.split_at_checked(n).ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(bytes)
    }

    pub(crate) fn array<const N: usize>(&mut self) -> Result<[u8; N], &'static str> {
        let (bytes, rest) = self.0.split_first_chunk().ok_or(TRUNCATED)?;
        self.0 = rest;
        Ok(*bytes)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, &'static str> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if (bits << shift) >> shift != bits {
                return Err(INTEGER);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return if byte == 0 && shift > 0 {
                    Err(INTEGER)
                } else {
                    Ok(value)
                };
            }
        }
        Err(INTEGER)
    }

    pub(crate) fn u32(&mut self) -> Result<u32, &'static str> {
        u32::try_from(self.u64()?).map_err(|_| INTEGER)
    }

    pub(crate) fn u16(&mut self) -> Result<u16, &'static str> {
        u16::try_from(self.u64()?).map_err(|_| INTEGER)
    }

    /// A count of things that take at least one byte each from what is left.
    pub(crate) fn count(&mut self) -> Result<usize, &'static str> {
        let n = usize::try_from(self.u64()?).map_err(|_| INTEGER)?;
        if n <= self.left() {
            Ok(n)
        } else {
            Err(TRUNCATED)
        }
    }

    pub(crate) const fn end(&self) -> Result<(), &'static str> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err("followed by something else")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_integer_reads_back_and_has_one_form(value: u64, signed: i64) {
            let mut bytes = Vec::new();
            put(&mut bytes, value);
            let mut reader = Reader::new(&bytes);
            prop_assert_eq!((reader.u64(), reader.end()), (Ok(value), Ok(())));
            prop_assert_eq!(unzigzag(zigzag(signed)), signed);
        }

        #[test]
        fn whatever_reads_as_an_integer_is_its_only_form(bytes in prop::collection::vec(any::<u8>(), 0..12)) {
            let mut reader = Reader::new(&bytes);
            if let Ok(value) = reader.u64() {
                let mut again = Vec::new();
                put(&mut again, value);
                prop_assert_eq!(&again[..], &bytes[..bytes.len() - reader.left()]);
            }
        }
    }
}
