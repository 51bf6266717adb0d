//! The columns of a catalogue before compression.
//!
//! Group, shard, version and count, then one column after another: ids as differences, cadence as
//! an index, timeout, kind, the columns of each kind, then its string tables. A reference into a
//! table is 0 for “the next one that was not used before” and 1 + index for one that was.

use std::collections::BTreeMap;

use crate::blob::{EncodeBlobError, ShardCatalogue};
use crate::check::http::{Handshake, HttpSpec, Method};
use crate::check::{Cadence, CheckKind, CheckSpec};
use crate::codec::{Breach, DecodeError};
use crate::id::{CatalogueVersion, CheckId, EndpointId, GroupId, ShardId, SiteId};
use crate::limits::{
    CATALOGUE_RAW_MAX_BYTES, GROUP_MAX, INTERVALS_SECS, SHARD_CHECKS_MAX, SHARDS_MAX,
};
use crate::time::Span;
use crate::varint::{Reader, TRUNCATED, put, unzigzag, zigzag};

/// The kind column's value for [`CheckKind::Http`].
const HTTP: u8 = 1;

const TLS: u8 = 1;
const HEAD: u8 = 1 << 1;
const RESUMED: u8 = 1 << 2;
const NEEDLE: u8 = 1 << 3;

/// Writes the columns of `sorted`, which are valid and in ascending order of distinct ids.
pub(super) fn write(
    catalogue: &ShardCatalogue,
    sorted: &[&CheckSpec],
) -> Result<Vec<u8>, EncodeBlobError> {
    let https: Vec<&HttpSpec> = sorted.iter().map(|check| http_of(check)).collect();
    let text: usize = https.iter().map(|http| text_bytes(http)).sum();
    if text > CATALOGUE_RAW_MAX_BYTES {
        return Err(EncodeBlobError::TooLarge(text));
    }
    let mut out = Vec::with_capacity(text + 32 * sorted.len());
    put(&mut out, catalogue.group.0.into());
    put(&mut out, catalogue.shard.0.into());
    put(&mut out, catalogue.version.0);
    put(&mut out, sorted.len() as u64);
    differences(&mut out, sorted.iter().map(|check| check.id.0));
    differences(&mut out, sorted.iter().map(|check| check.endpoint.0));
    differences(&mut out, sorted.iter().map(|check| check.site.0));
    out.extend(sorted.iter().map(|check| class(check.cadence)));
    sorted
        .iter()
        .for_each(|check| put(&mut out, check.timeout.0));
    out.extend(sorted.iter().map(|_| HTTP));
    write_http(&mut out, &https);
    if out.len() > CATALOGUE_RAW_MAX_BYTES {
        return Err(EncodeBlobError::TooLarge(out.len()));
    }
    Ok(out)
}

fn http_of(check: &CheckSpec) -> &HttpSpec {
    let CheckKind::Http(http) = &check.kind;
    http
}

/// Bytes of text that a check unfolds to.
fn text_bytes(http: &HttpSpec) -> usize {
    http.host.len() + http.target.len() + http.body_contains.as_ref().map_or(0, String::len)
}

fn class(cadence: Cadence) -> u8 {
    INTERVALS_SECS
        .iter()
        .position(|&secs| secs == cadence.secs())
        .and_then(|index| u8::try_from(index).ok())
        .expect("the check was validated, and there are few intervals")
}

fn differences(out: &mut Vec<u8>, values: impl Iterator<Item = u64>) {
    let mut previous = 0_u64;
    for value in values {
        put(out, zigzag(value.wrapping_sub(previous).cast_signed()));
        previous = value;
    }
}

fn write_http(out: &mut Vec<u8>, https: &[&HttpSpec]) {
    out.extend(https.iter().map(|http| flags(http)));
    https.iter().for_each(|http| put(out, http.port.into()));
    https
        .iter()
        .for_each(|http| put(out, http.status_min.into()));
    https
        .iter()
        .for_each(|http| put(out, http.status_max.into()));
    write_texts(out, https.iter().map(|http| &*http.host));
    write_texts(out, https.iter().map(|http| &*http.target));
    write_texts(
        out,
        https
            .iter()
            .filter_map(|http| http.body_contains.as_deref()),
    );
}

fn flags(http: &HttpSpec) -> u8 {
    let flag = |set, flag| if set { flag } else { 0 };
    flag(http.tls, TLS)
        | flag(http.method == Method::Head, HEAD)
        | flag(http.handshake == Handshake::Resumed, RESUMED)
        | flag(http.body_contains.is_some(), NEEDLE)
}

/// References, then the table: count, lengths, texts.
fn write_texts<'a>(out: &mut Vec<u8>, texts: impl Iterator<Item = &'a str>) {
    let mut known = BTreeMap::new();
    let mut table = Vec::new();
    for text in texts {
        if let Some(&index) = known.get(text) {
            put(out, 1 + index);
        } else {
            put(out, 0);
            known.insert(text, table.len() as u64);
            table.push(text);
        }
    }
    put(out, table.len() as u64);
    table.iter().for_each(|text| put(out, text.len() as u64));
    table
        .iter()
        .for_each(|text| out.extend_from_slice(text.as_bytes()));
}

/// Reads what [`write`] wrote.
pub(super) fn read(raw: &[u8]) -> Result<ShardCatalogue, DecodeError> {
    let mut reader = Reader::new(raw);
    let (catalogue, ids) = read_head(&mut reader).map_err(DecodeError::Columns)?;
    let rows = read_rows(&mut reader, &ids).map_err(DecodeError::Columns)?;
    for row in &rows {
        row.validate().map_err(Breach::Spec)?;
    }
    Ok(ShardCatalogue {
        checks: rows,
        ..catalogue
    })
}

fn read_head(reader: &mut Reader<'_>) -> Result<(ShardCatalogue, Vec<u64>), &'static str> {
    let group = reader.u32()?;
    let shard = reader.u32()?;
    let version = CatalogueVersion(reader.u64()?);
    if group > GROUP_MAX || shard >= SHARDS_MAX {
        return Err("no such group or shard can exist");
    }
    let count = reader.count()?;
    if count > SHARD_CHECKS_MAX {
        return Err("more checks than a shard may have");
    }
    let ids = read_differences(reader, count)?;
    if !ids.is_sorted_by(|a, b| a < b) {
        return Err("checks are not in ascending order");
    }
    let (group, shard) = (GroupId(group), ShardId(shard));
    Ok((
        ShardCatalogue {
            group,
            shard,
            version,
            checks: Vec::new(),
        },
        ids,
    ))
}

fn read_rows(reader: &mut Reader<'_>, ids: &[u64]) -> Result<Vec<CheckSpec>, &'static str> {
    let endpoints = read_differences(reader, ids.len())?;
    let sites = read_differences(reader, ids.len())?;
    let classes = reader.bytes(ids.len())?;
    let timeouts = column(ids.len(), || reader.u64())?;
    if reader.bytes(ids.len())?.iter().any(|&kind| kind != HTTP) {
        return Err("no such kind of check");
    }
    let https = read_http(reader, ids.len())?;
    reader.end()?;
    let places = ids.iter().zip(endpoints).zip(sites);
    places
        .zip(classes.iter().zip(timeouts))
        .zip(https)
        .map(|((((&id, endpoint), site), (&class, timeout)), http)| {
            Ok(CheckSpec {
                id: CheckId(id),
                endpoint: EndpointId(endpoint),
                site: SiteId(site),
                cadence: cadence(class)?,
                timeout: Span(timeout),
                kind: CheckKind::Http(http),
            })
        })
        .collect()
}

fn cadence(class: u8) -> Result<Cadence, &'static str> {
    let secs = INTERVALS_SECS
        .get(usize::from(class))
        .ok_or("no such interval")?;
    Cadence::from_secs(*secs).map_err(|_| "no such interval")
}

fn column<T>(
    count: usize,
    mut next: impl FnMut() -> Result<T, &'static str>,
) -> Result<Vec<T>, &'static str> {
    (0..count).map(|_| next()).collect()
}

fn read_differences(reader: &mut Reader<'_>, count: usize) -> Result<Vec<u64>, &'static str> {
    let mut value = 0_u64;
    column(count, || {
        value = value.wrapping_add(unzigzag(reader.u64()?).cast_unsigned());
        Ok(value)
    })
}

fn read_http(reader: &mut Reader<'_>, count: usize) -> Result<Vec<HttpSpec>, &'static str> {
    let flags = reader.bytes(count)?;
    if flags
        .iter()
        .any(|flags| flags & !(TLS | HEAD | RESUMED | NEEDLE) != 0)
    {
        return Err("a flag that is not defined");
    }
    let ports = column(count, || reader.u16())?;
    let lowest = column(count, || reader.u16())?;
    let highest = column(count, || reader.u16())?;
    // Texts unfold: what all rows refer to is bounded, not only what the tables hold.
    let mut budget = CATALOGUE_RAW_MAX_BYTES;
    let hosts = read_texts(reader, count, &mut budget)?;
    let targets = read_texts(reader, count, &mut budget)?;
    let with_needle = flags.iter().filter(|&flags| flags & NEEDLE != 0).count();
    let mut needles = read_texts(reader, with_needle, &mut budget)?.into_iter();
    let texts = flags.iter().zip(hosts.into_iter().zip(targets));
    let numbers = ports.into_iter().zip(lowest.into_iter().zip(highest));
    let row = |((&flags, (host, target)), (port, (status_min, status_max)))| HttpSpec {
        tls: flags & TLS != 0,
        host,
        port,
        target,
        method: if flags & HEAD != 0 {
            Method::Head
        } else {
            Method::Get
        },
        status_min,
        status_max,
        body_contains: if flags & NEEDLE != 0 {
            needles.next()
        } else {
            None
        },
        handshake: if flags & RESUMED != 0 {
            Handshake::Resumed
        } else {
            Handshake::Full
        },
    };
    Ok(texts.zip(numbers).map(row).collect())
}

fn read_texts(
    reader: &mut Reader<'_>,
    count: usize,
    budget: &mut usize,
) -> Result<Vec<String>, &'static str> {
    let references = column(count, || reader.u64())?;
    let table = read_table(reader)?;
    let mut unused = table.iter().enumerate();
    let mut used = 0;
    let mut text = |reference: &u64| {
        let text = if let Some(index) = reference.checked_sub(1) {
            let index = usize::try_from(index).ok().filter(|&index| index < used);
            index
                .and_then(|index| table.get(index))
                .ok_or("a reference ahead of its text")?
        } else {
            let (index, text) = unused.next().ok_or("a reference beyond the table")?;
            used = index + 1;
            text
        };
        *budget = budget
            .checked_sub(text.len())
            .ok_or("texts unfold beyond their bound")?;
        Ok((*text).to_owned())
    };
    let texts = references
        .iter()
        .map(&mut text)
        .collect::<Result<_, &'static str>>()?;
    if used == table.len() {
        Ok(texts)
    } else {
        Err("a text that nobody refers to")
    }
}

fn read_table<'a>(reader: &mut Reader<'a>) -> Result<Vec<&'a str>, &'static str> {
    let count = reader.count()?;
    let lengths = column(count, || reader.u64())?;
    let mut text = |length: &u64| {
        let bytes = reader.bytes(usize::try_from(*length).map_err(|_| TRUNCATED)?)?;
        str::from_utf8(bytes).map_err(|_| "a text that is not UTF-8")
    };
    lengths.iter().map(&mut text).collect()
}
