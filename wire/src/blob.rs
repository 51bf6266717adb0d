//! The catalogue of one shard as an immutable blob, named by the hash of its bytes.
//!
//! A blob is a frame ([`crate::envelope`]) whose payload is columns and string tables, compressed:
//! columns because neighbours in a column resemble each other, tables because hosts, paths and
//! texts repeat. Equal catalogues are equal bytes as long as the zstd library is the same; blobs
//! of another version of it have other names and are just as good.

mod columns;

use crate::check::{CheckSpec, SpecError};
use crate::codec::{DecodeError, open};
use crate::envelope::{ENVELOPE_BYTES, Head, Kind, seal};
use crate::id::{CatalogueVersion, CheckId, GroupId, ShardId};
use crate::limits::{
    CATALOGUE_RAW_MAX_BYTES, GROUP_MAX, PAYLOAD_MAX_BYTES, SHARD_CHECKS_MAX, SHARDS_MAX,
};

/// The level from which on zstd no longer finds much in columns; some 200 MB/s.
const ZSTD_LEVEL: i32 = 3;

/// Everything that is to be probed in one shard.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ShardCatalogue {
    /// The placement group, at most [`GROUP_MAX`].
    pub group: GroupId,
    /// The shard in it, below [`SHARDS_MAX`].
    pub shard: ShardId,
    /// Grows with every change.
    pub version: CatalogueVersion,
    /// The checks; a blob holds them in the order of their ids.
    pub checks: Vec<CheckSpec>,
}

/// A catalogue that does not fit a blob, or holds something that no agent would accept.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EncodeBlobError {
    /// No such group or shard can exist.
    #[error("expected a group up to {GROUP_MAX} and a shard below {SHARDS_MAX}, got {0} {1}")]
    Place(GroupId, ShardId),
    /// More checks than a shard may have: the cluster needs more shards.
    #[error("expected at most {SHARD_CHECKS_MAX} checks in a shard, got {0}")]
    TooMany(usize),
    /// Texts are too long in sum.
    #[error("expected at most {CATALOGUE_RAW_MAX_BYTES} bytes in a shard, got {0}")]
    TooLarge(usize),
    /// Two checks with one id.
    #[error("{0} occurs twice")]
    Twice(CheckId),
    /// A check that breaks a rule.
    #[error("{0}: {1}")]
    Spec(CheckId, SpecError),
}

/// Writes a catalogue as a blob.
///
/// # Errors
/// When it has too many checks, or one that [`CheckSpec::validate`] refuses.
pub fn encode_blob(catalogue: &ShardCatalogue) -> Result<Vec<u8>, EncodeBlobError> {
    let ShardCatalogue {
        group,
        shard,
        version: _,
        checks,
    } = catalogue;
    if group.0 > GROUP_MAX || shard.0 >= SHARDS_MAX {
        return Err(EncodeBlobError::Place(*group, *shard));
    }
    if checks.len() > SHARD_CHECKS_MAX {
        return Err(EncodeBlobError::TooMany(checks.len()));
    }
    let mut sorted: Vec<&CheckSpec> = checks.iter().collect();
    sorted.sort_unstable_by_key(|check| check.id);
    if let Some([twice, _]) = sorted.array_windows().find(|[a, b]| a.id == b.id) {
        return Err(EncodeBlobError::Twice(twice.id));
    }
    for check in &sorted {
        check
            .validate()
            .map_err(|error| EncodeBlobError::Spec(check.id, error))?;
    }
    let raw = columns::write(catalogue, &sorted)?;
    let length = u32::try_from(raw.len()).expect("bounded by CATALOGUE_RAW_MAX_BYTES");
    let mut frame = vec![0; ENVELOPE_BYTES];
    frame.extend_from_slice(&length.to_le_bytes());
    let packed = zstd::bulk::compress(&raw, ZSTD_LEVEL)
        .expect("the output is allocated for the worst case of the input");
    if frame.len() + packed.len() > PAYLOAD_MAX_BYTES {
        return Err(EncodeBlobError::TooLarge(packed.len()));
    }
    frame.extend_from_slice(&packed);
    seal(
        &mut frame,
        Kind::Catalogue,
        Head {
            group: *group,
            shard: *shard,
            ..Head::NONE
        },
    );
    Ok(frame)
}

/// Reads a blob; every check in it is valid and they are in the order of their ids.
///
/// # Errors
/// When the bytes are not a blob, or hold a check that breaks a rule.
pub fn decode_blob(frame: &[u8]) -> Result<ShardCatalogue, DecodeError> {
    let (_, payload) = open(Kind::Catalogue, frame)?;
    let (length, packed) = payload
        .split_first_chunk()
        .ok_or(DecodeError::Columns("no length"))?;
    let length = usize::try_from(u32::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > CATALOGUE_RAW_MAX_BYTES {
        return Err(DecodeError::Columns(
            "the catalogue is longer than a shard's can be",
        ));
    }
    let raw = zstd::bulk::decompress(packed, length)
        .map_err(|_| DecodeError::Columns("not zstd, or longer than announced"))?;
    if raw.len() != length {
        return Err(DecodeError::Columns("shorter than announced"));
    }
    columns::read(&raw)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::http::HttpSpec;
    use crate::check::{Cadence, CheckKind};
    use crate::id::{BlobHash, EndpointId, SiteId};
    use crate::time::Span;

    fn check(id: u64) -> CheckSpec {
        let host = format!("host{}.example.org", id % 700);
        CheckSpec {
            id: CheckId(id),
            endpoint: EndpointId(id),
            site: SiteId(id / 3),
            cadence: Cadence::from_secs(300).unwrap(),
            timeout: Span(10_000),
            kind: CheckKind::Http(HttpSpec::plain(true, host, 443, "/".to_owned())),
        }
    }

    fn catalogue(ids: impl Iterator<Item = u64>) -> ShardCatalogue {
        let checks = ids.map(check).collect();
        ShardCatalogue {
            group: GroupId(0),
            shard: ShardId(7),
            version: CatalogueVersion(3),
            checks,
        }
    }

    #[test]
    fn the_order_of_checks_does_not_change_the_hash() {
        let forth = encode_blob(&catalogue(1..=1_000)).unwrap();
        let back = encode_blob(&catalogue((1..=1_000).rev())).unwrap();
        assert_eq!(BlobHash::of(&forth), BlobHash::of(&back));
        assert_eq!(decode_blob(&back), Ok(catalogue(1..=1_000)));
    }

    #[test]
    fn a_catalogue_of_plain_checks_takes_few_bytes_a_check() {
        let bytes = encode_blob(&catalogue((1..=1_000).map(|i| i * 4_096)))
            .unwrap()
            .len();
        assert!(bytes <= 8 * 1_000, "{bytes} bytes for 1,000 checks");
    }

    #[test]
    fn an_empty_shard_is_a_blob_too() {
        let blob = encode_blob(&catalogue(0..0)).unwrap();
        assert_eq!(decode_blob(&blob), Ok(catalogue(0..0)));
    }

    #[test]
    fn what_no_agent_would_accept_is_not_written() {
        let mut twice = catalogue(1..=2);
        twice.checks[1].id = CheckId(1);
        assert_eq!(encode_blob(&twice), Err(EncodeBlobError::Twice(CheckId(1))));
        let mut slow = catalogue(1..=1);
        slow.checks[0].timeout = Span::from_secs(61);
        assert!(matches!(
            encode_blob(&slow),
            Err(EncodeBlobError::Spec(CheckId(1), _))
        ));
    }

    #[test]
    fn a_small_blob_cannot_unfold_into_a_large_catalogue() {
        let mut repeated = catalogue(0..10_000);
        for check in &mut repeated.checks {
            let CheckKind::Http(http) = &mut check.kind;
            http.target = format!("/{}", "a".repeat(2_000));
        }
        assert!(matches!(
            encode_blob(&repeated),
            Err(EncodeBlobError::TooLarge(_))
        ));
    }
}
