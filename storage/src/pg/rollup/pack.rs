//! The columns of one shard's window, packed.
//!
//! Neighbours resemble each other: ids are dense, nearly all checks ran as often as they were due
//! and were ok. So each figure is a column of its own, ids are differences, and zstd sees long
//! runs. A version byte leads, then the raw length and the compressed columns, all as LEB128.

use picket_wire::id::{CheckId, EndpointId};
use picket_wire::lane::rollup::CheckRollup;

/// Leads every packed row; a new layout takes the next.
const VERSION: u8 = 1;
/// Fast, and all that short integer columns yield.
const ZSTD_LEVEL: i32 = 1;
/// Largest raw size that is unpacked: a full shard of 64 Ki checks with a dozen buckets each.
const RAW_MAX: u64 = 16 * 1024 * 1024;

/// A packed row that is not one.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnpackError {
    /// Its version is unknown.
    #[error("layout {0} is unknown")]
    Version(u8),
    /// It does not decompress within the bound.
    #[error("the columns do not decompress")]
    Compression,
    /// It ends early or holds more than its columns.
    #[error("the columns are of the wrong length")]
    Length,
}

/// Packs checks; [`unpack`] gives them back in the same order.
#[must_use]
pub fn pack(checks: &[CheckRollup]) -> Vec<u8> {
    let mut raw = Vec::with_capacity(16 * checks.len());
    put(&mut raw, checks.len() as u64);
    put_ids(&mut raw, checks.iter().map(|check| check.check.0));
    put_ids(&mut raw, checks.iter().map(|check| check.endpoint.0));
    let columns: [fn(&CheckRollup) -> u32; 4] = [
        |check| check.due,
        |check| check.ran,
        |check| check.ok,
        |check| check.lateness_max_ms,
    ];
    for column in columns {
        checks
            .iter()
            .for_each(|check| put(&mut raw, u64::from(column(check))));
    }
    checks
        .iter()
        .for_each(|check| put(&mut raw, check.latency.len() as u64));
    let buckets = || checks.iter().flat_map(|check| &check.latency);
    buckets().for_each(|&(bucket, _)| raw.push(bucket));
    buckets().for_each(|&(_, count)| put(&mut raw, u64::from(count)));

    let mut packed = vec![VERSION];
    put(&mut packed, raw.len() as u64);
    let columns = zstd::bulk::compress(&raw, ZSTD_LEVEL)
        .expect("compressing memory into memory fails only for want of memory");
    packed.extend(columns);
    packed
}

/// Reads what [`pack`] wrote.
///
/// # Errors
/// When the bytes are not a packed row of a known layout.
pub fn unpack(packed: &[u8]) -> Result<Vec<CheckRollup>, UnpackError> {
    let raw = decompress(packed)?;
    let mut raw = Columns(&raw);
    // Each check takes at least seven bytes, so this allocates no more than what was read.
    let n = usize::try_from(raw.take()?)
        .ok()
        .filter(|n| n.saturating_mul(7) <= raw.0.len());
    let n = n.ok_or(UnpackError::Length)?;
    let check = raw.ids(n)?;
    let endpoint = raw.ids(n)?;
    let (due, ran, ok, lateness) = (
        raw.column(n)?,
        raw.column(n)?,
        raw.column(n)?,
        raw.column(n)?,
    );
    let lengths = raw.column(n)?;
    let mut checks = Vec::with_capacity(n);
    for i in 0..n {
        checks.push(CheckRollup {
            check: CheckId(check[i]),
            endpoint: EndpointId(endpoint[i]),
            due: due[i],
            ran: ran[i],
            ok: ok[i],
            lateness_max_ms: lateness[i],
            latency: raw.buckets(lengths[i])?,
        });
    }
    for check in &mut checks {
        for (_, count) in &mut check.latency {
            *count = raw.take_u32()?;
        }
    }
    if raw.0.is_empty() {
        Ok(checks)
    } else {
        Err(UnpackError::Length)
    }
}

fn decompress(packed: &[u8]) -> Result<Vec<u8>, UnpackError> {
    let (&version, rest) = packed.split_first().ok_or(UnpackError::Length)?;
    if version != VERSION {
        return Err(UnpackError::Version(version));
    }
    let mut rest = Columns(rest);
    let length = rest.take()?;
    let capacity = usize::try_from(length.min(RAW_MAX)).unwrap_or(usize::MAX);
    let raw = zstd::bulk::decompress(rest.0, capacity).map_err(|_| UnpackError::Compression)?;
    if raw.len() as u64 == length {
        Ok(raw)
    } else {
        Err(UnpackError::Length)
    }
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value.to_le_bytes()[0] | 0x80);
        value >>= 7;
    }
    out.push(value.to_le_bytes()[0]);
}

fn put_ids(out: &mut Vec<u8>, ids: impl Iterator<Item = u64>) {
    let mut last = 0_u64;
    for id in ids {
        put(out, zigzag(id.wrapping_sub(last).cast_signed()));
        last = id;
    }
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

/// What is left to read.
struct Columns<'a>(&'a [u8]);

impl Columns<'_> {
    fn take_byte(&mut self) -> Result<u8, UnpackError> {
        let (&byte, rest) = self.0.split_first().ok_or(UnpackError::Length)?;
        self.0 = rest;
        Ok(byte)
    }

    fn take(&mut self) -> Result<u64, UnpackError> {
        let mut value = 0_u64;
        for shift in (0..64).step_by(7) {
            let byte = self.take_byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(UnpackError::Length)
    }

    fn take_u32(&mut self) -> Result<u32, UnpackError> {
        u32::try_from(self.take()?).map_err(|_| UnpackError::Length)
    }

    fn column(&mut self, n: usize) -> Result<Vec<u32>, UnpackError> {
        (0..n).map(|_| self.take_u32()).collect()
    }

    fn ids(&mut self, n: usize) -> Result<Vec<u64>, UnpackError> {
        let mut last = 0_u64;
        let mut next = || {
            last = last.wrapping_add(unzigzag(self.take()?).cast_unsigned());
            Ok(last)
        };
        (0..n).map(|_| next()).collect()
    }

    /// The next buckets, counts still missing.
    fn buckets(&mut self, n: u32) -> Result<Vec<(u8, u32)>, UnpackError> {
        (0..n).map(|_| Ok((self.take_byte()?, 0))).collect()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn rollup(check: u64) -> CheckRollup {
        CheckRollup {
            check: CheckId(check),
            endpoint: EndpointId(check + 1),
            due: 5,
            ran: 5,
            ok: 5,
            lateness_max_ms: 2,
            latency: vec![(40, 3), (41, 2)],
        }
    }

    #[test]
    fn the_layout_keeps_its_form() {
        let one = CheckRollup {
            latency: vec![(40, 300)],
            ..rollup(9)
        };
        let packed = pack(&[one]);
        assert_eq!(packed[..2], [1, 11]);
        let raw = zstd::bulk::decompress(&packed[2..], 64).unwrap();
        assert_eq!(raw, [1, 18, 20, 5, 5, 5, 2, 1, 40, 0xac, 2]);
    }

    #[test]
    fn a_healthy_check_costs_a_few_bytes() {
        let checks: Vec<_> = (0..1_000).map(|i| rollup(1_000 + i * 4_096)).collect();
        assert!(pack(&checks).len() < 2 * checks.len());
    }

    #[test]
    fn damage_is_an_error() {
        let packed = pack(&[rollup(1), rollup(2)]);
        assert_eq!(unpack(&[]), Err(UnpackError::Length));
        assert_eq!(unpack(&[9]), Err(UnpackError::Version(9)));
        assert!(unpack(&packed[..packed.len() - 1]).is_err());
        let mut longer = vec![VERSION];
        put(&mut longer, u64::MAX);
        assert!(unpack(&longer).is_err());
    }

    fn any_rollup() -> impl Strategy<Value = CheckRollup> {
        let latency = prop::collection::vec(any::<(u8, u32)>(), 0..5);
        (any::<(u64, u64)>(), any::<(u32, u32, u32, u32)>(), latency).prop_map(
            |(ids, counts, latency)| CheckRollup {
                check: CheckId(ids.0),
                endpoint: EndpointId(ids.1),
                due: counts.0,
                ran: counts.1,
                ok: counts.2,
                lateness_max_ms: counts.3,
                latency,
            },
        )
    }

    proptest! {
        #[test]
        fn unpack_gives_back_what_was_packed(checks in prop::collection::vec(any_rollup(), 0..40)) {
            prop_assert_eq!(unpack(&pack(&checks)), Ok(checks));
        }

        #[test]
        fn unpack_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
            let _unused = unpack(&bytes);
            let mut framed = vec![VERSION];
            put(&mut framed, bytes.len() as u64);
            framed.extend(zstd::bulk::compress(&bytes, 1).unwrap());
            let _unused = unpack(&framed);
        }
    }
}
