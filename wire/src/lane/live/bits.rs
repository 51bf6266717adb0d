//! Rice codes: small numbers in few bits, large ones not without bound.
//!
//! A value is cut into its low `rice` bits and the rest; the rest is written in unary, a zero at
//! its end, then the low bits. Sixteen ones announce a whole value in nine bits instead. Bits fill
//! bytes from the lowest up; what is left of the last byte is zero.

/// Largest Rice parameter: residuals have nine bits, and a reset's are spread over seven of them.
pub(super) const RICE_MAX: u8 = 7;

/// Ones that announce a whole value.
const ESCAPE: u32 = 16;
/// Bits of a whole value: the zigzag form of the difference of two bytes.
const WHOLE_BITS: u32 = 9;

/// The best parameter and the column.
pub(super) fn write_rice(values: &[u16]) -> (u8, Vec<u8>) {
    let cost = |rice: &u8| {
        values
            .iter()
            .map(|&v| u64::from(bits(*rice, v)))
            .sum::<u64>()
    };
    let rice = (0..=RICE_MAX).min_by_key(cost).unwrap_or(0);
    let mut out = Writer::with_bits(cost(&rice));
    for &value in values {
        let quotient = u32::from(value >> rice);
        if quotient < ESCAPE {
            out.put((1 << quotient) - 1, quotient + 1);
            out.put(u64::from(value) & ((1 << rice) - 1), rice.into());
        } else {
            out.put((1 << ESCAPE) - 1, ESCAPE);
            out.put(value.into(), WHOLE_BITS);
        }
    }
    (rice, out.end())
}

/// Bits that a value takes.
fn bits(rice: u8, value: u16) -> u32 {
    let quotient = u32::from(value >> rice);
    if quotient < ESCAPE {
        quotient + 1 + u32::from(rice)
    } else {
        ESCAPE + WHOLE_BITS
    }
}

/// Reads `count` values onto the end of `values`.
///
/// # Errors
/// When the column does not hold exactly as many.
pub(super) fn read_rice(
    rice: u8,
    column: &[u8],
    count: usize,
    values: &mut Vec<u16>,
) -> Result<(), &'static str> {
    if rice > RICE_MAX {
        return Err("a Rice parameter out of range");
    }
    // Each value takes at least one bit, so this also bounds the allocation.
    if count > column.len().saturating_mul(8) {
        return Err(SHORT);
    }
    values.reserve(count);
    let mut reader = Reader {
        column,
        word: 0,
        held: 0,
    };
    for _ in 0..count {
        let quotient = reader.ones()?;
        let value = if quotient < ESCAPE {
            (quotient << rice) | reader.take(rice.into())?
        } else {
            reader.take(WHOLE_BITS)?
        };
        values.push(u16::try_from(value).map_err(|_| "a residual out of range")?);
    }
    reader.end()
}

const SHORT: &str = "a column ends before its values";

struct Writer {
    out: Vec<u8>,
    word: u64,
    held: u32,
}

impl Writer {
    fn with_bits(bits: u64) -> Self {
        let bytes = usize::try_from(bits.div_ceil(8)).unwrap_or(0);
        Self {
            out: Vec::with_capacity(bytes),
            word: 0,
            held: 0,
        }
    }

    /// Appends the `n` bits of `value`, at most 17.
    fn put(&mut self, value: u64, n: u32) {
        self.word |= value << self.held;
        self.held += n;
        if self.held >= 32 {
            let [a, b, c, d, ..] = self.word.to_le_bytes();
            self.out.extend_from_slice(&[a, b, c, d]);
            self.word >>= 32;
            self.held -= 32;
        }
    }

    fn end(mut self) -> Vec<u8> {
        let bytes = self.held.div_ceil(8) as usize;
        self.out
            .extend(self.word.to_le_bytes().into_iter().take(bytes));
        self.out
    }
}

struct Reader<'a> {
    column: &'a [u8],
    word: u64,
    held: u32,
}

impl Reader<'_> {
    /// Holds at least 25 bits, or all that are left.
    fn fill(&mut self) {
        while self.held <= 24 {
            let Some((&byte, rest)) = self.column.split_first() else {
                return;
            };
            self.word |= u64::from(byte) << self.held;
            self.held += 8;
            self.column = rest;
        }
    }

    /// Counts ones up to [`ESCAPE`] and drops the zero behind fewer.
    fn ones(&mut self) -> Result<u32, &'static str> {
        self.fill();
        let ones = self.word.trailing_ones().min(ESCAPE);
        self.drop_bits(if ones < ESCAPE { ones + 1 } else { ones })?;
        Ok(ones)
    }

    fn take(&mut self, n: u32) -> Result<u32, &'static str> {
        self.fill();
        let [a, b, ..] = (self.word & ((1 << n) - 1)).to_le_bytes();
        self.drop_bits(n)?;
        Ok(u16::from_le_bytes([a, b]).into())
    }

    fn drop_bits(&mut self, n: u32) -> Result<(), &'static str> {
        self.held = self.held.checked_sub(n).ok_or(SHORT)?;
        self.word >>= n;
        Ok(())
    }

    fn end(mut self) -> Result<(), &'static str> {
        self.fill();
        let unused = self.held < 8 && self.word == 0 && self.column.is_empty();
        if unused {
            Ok(())
        } else {
            Err("a column goes on behind its values")
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_column_reads_back(values in prop::collection::vec(0_u16..512, 0..300)) {
            let (rice, column) = write_rice(&values);
            let mut again = Vec::new();
            prop_assert_eq!(read_rice(rice, &column, values.len(), &mut again), Ok(()));
            prop_assert_eq!(again, values);
        }

        #[test]
        fn no_column_panics(
            rice: u8,
            column in prop::collection::vec(any::<u8>(), 0..64),
            count in 0_usize..1_000,
        ) {
            let mut values = Vec::new();
            let read = read_rice(rice, &column, count, &mut values);
            prop_assert!(read.is_err() || values.len() == count);
        }
    }

    #[test]
    fn equal_values_take_one_bit_each() {
        assert_eq!(write_rice(&[0; 80]), (0, vec![0; 10]));
    }

    #[test]
    fn a_value_far_from_the_others_is_written_whole() {
        let mut values = [0; 100];
        values[50] = 478;
        let (rice, column) = write_rice(&values);
        assert_eq!((rice, column.len()), (0, (99 + 25_usize).div_ceil(8)));
    }
}
