//! A reader of one HTTP/1.1 response (RFC 9112), fed with bytes as they arrive.
//!
//! It keeps nothing of what it reads but the status, a few lengths, the line it is in the middle
//! of and the state of a text search: whatever a server sends, memory stays below one head. How
//! the bytes are cut into pieces changes nothing. It forgives what browsers forgive (a bare line
//! feed, folded fields, a missing last line break after the last chunk) and nothing that would
//! leave unclear where a body ends.

use std::ops::RangeInclusive;

use picket_wire::check::http::Method;
use picket_wire::limits::{BODY_MAX_BYTES, HEAD_MAX_BYTES};

use crate::check::detail::quote;
use crate::check::http::needle::Needle;

/// Interim responses (1xx) before the real one; servers send one or two.
const INTERIM_MAX: u8 = 8;
/// Longest line of chunked framing: a size takes sixteen digits, extensions are all but extinct.
const CHUNK_LINE_MAX_BYTES: usize = 1_024;
/// Most bytes of a body as it travels: its own cap, and as much again for chunked framing.
const TRAVEL_MAX_BYTES: usize = 2 * BODY_MAX_BYTES;

/// The bytes are not an HTTP/1.1 response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Malformed {
    /// The first line is not a status line.
    #[error("not an HTTP/1.1 status line: `{0}`")]
    StatusLine(String),
    /// A line of the head is not a field.
    #[error("not a header field: `{0}`")]
    Field(String),
    /// The head is longer than any honest one.
    #[error("the response head is longer than {HEAD_MAX_BYTES} bytes")]
    HeadTooLong,
    /// Interim responses without end.
    #[error("more than {INTERIM_MAX} interim responses")]
    Interim,
    /// Content-Length is no number, or two that differ.
    #[error("invalid Content-Length: `{0}`")]
    ContentLength(String),
    /// The body is announced as chunked and is not.
    #[error("invalid chunk: `{0}`")]
    Chunk(String),
}

/// The connection ended too early.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CutShort {
    /// Before the head was complete.
    #[error("connection closed after {n_bytes} bytes of the response head")]
    Head {
        /// How much of it had arrived.
        n_bytes: usize,
    },
    /// Before the body was complete.
    #[error("connection closed after {n_bytes} bytes of the body")]
    Body {
        /// How much of it had arrived.
        n_bytes: usize,
    },
}

/// Where the reader is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    StatusLine,
    Fields,
    /// A body with a length; so much is left.
    Sized(u64),
    /// A body that ends with the connection.
    UntilClose,
    ChunkSize,
    /// So much of a chunk is left.
    ChunkData(u64),
    /// The line break after a chunk.
    ChunkEnd,
    Trailers,
    Done,
}

/// What a head says about where its body ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Framing {
    length: Option<u64>,
    encoded: bool,
    chunked: bool,
}

/// The reader.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    method: Method,
    /// Statuses that are ok: the body of another is not waited for.
    expected: RangeInclusive<u16>,
    needle: Option<Needle<'a>>,
    stage: Stage,
    /// The beginning of a line whose end has not arrived.
    line: Vec<u8>,
    framing: Framing,
    status: u16,
    n_interim: u8,
    n_head_bytes: usize,
    /// Bytes of the body, framing included.
    n_travel_bytes: usize,
    n_body_bytes: usize,
}

impl<'a> Reader<'a> {
    /// A reader of the response to one `method` request.
    pub(crate) fn new(
        method: Method,
        expected: RangeInclusive<u16>,
        contains: Option<&'a str>,
    ) -> Self {
        Self {
            method,
            expected,
            needle: contains.map(Needle::new),
            stage: Stage::StatusLine,
            line: Vec::new(),
            framing: Framing::default(),
            status: 0,
            n_interim: 0,
            n_head_bytes: 0,
            n_travel_bytes: 0,
            n_body_bytes: 0,
        }
    }

    /// The status, 0 before the head is complete.
    pub(crate) const fn status(&self) -> u16 {
        if self.is_in_head() { 0 } else { self.status }
    }

    /// Whether the head is not complete yet.
    pub(crate) const fn is_in_head(&self) -> bool {
        matches!(self.stage, Stage::StatusLine | Stage::Fields)
    }

    /// Whether nothing more needs to be read.
    pub(crate) const fn is_done(&self) -> bool {
        matches!(self.stage, Stage::Done)
    }

    /// Whether the expected text has been seen, or none is expected.
    pub(crate) fn has_needle(&self) -> bool {
        self.needle.as_ref().is_none_or(Needle::is_found)
    }

    /// Reads on.
    ///
    /// # Errors
    /// When this is no HTTP/1.1 response; the reader is of no use afterwards.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Result<(), Malformed> {
        while !bytes.is_empty() && self.stage != Stage::Done {
            bytes = match self.stage {
                Stage::Sized(left) | Stage::ChunkData(left) => self.take_body(bytes, left),
                Stage::UntilClose => self.take_body(bytes, u64::MAX),
                _ => self.take_line(bytes)?,
            };
        }
        Ok(())
    }

    /// The connection has ended in good order.
    ///
    /// # Errors
    /// When something was still to come.
    pub(crate) const fn end(&self) -> Result<(), CutShort> {
        match self.stage {
            Stage::StatusLine | Stage::Fields => Err(CutShort::Head {
                n_bytes: self.n_head_bytes,
            }),
            Stage::Sized(_) | Stage::ChunkSize | Stage::ChunkData(_) | Stage::ChunkEnd => {
                Err(CutShort::Body {
                    n_bytes: self.n_body_bytes,
                })
            }
            // The last chunk has been seen: the body is complete (RFC 9112, section 8).
            Stage::UntilClose | Stage::Trailers | Stage::Done => Ok(()),
        }
    }

    /// Takes up to `left` bytes of content; returns what follows.
    fn take_body<'b>(&mut self, bytes: &'b [u8], left: u64) -> &'b [u8] {
        let room = BODY_MAX_BYTES - self.n_body_bytes;
        let n_wanted = usize::try_from(left).unwrap_or(usize::MAX).min(room);
        let (content, rest) = bytes.split_at(n_wanted.min(bytes.len()));
        if let Some(needle) = &mut self.needle {
            needle.feed(content);
        }
        self.n_body_bytes += content.len();
        self.n_travel_bytes += content.len();
        let left = left - content.len() as u64;
        self.stage = match self.stage {
            _ if self.has_read_enough() => Stage::Done,
            Stage::Sized(_) if left == 0 => Stage::Done,
            Stage::Sized(_) => Stage::Sized(left),
            Stage::ChunkData(_) if left == 0 => Stage::ChunkEnd,
            Stage::ChunkData(_) => Stage::ChunkData(left),
            other => other,
        };
        rest
    }

    const fn has_read_enough(&self) -> bool {
        self.n_body_bytes >= BODY_MAX_BYTES || self.n_travel_bytes >= TRAVEL_MAX_BYTES
    }

    /// Takes bytes up to the end of the line and acts on the line if it is complete.
    fn take_line<'b>(&mut self, bytes: &'b [u8]) -> Result<&'b [u8], Malformed> {
        let Some(end) = bytes.iter().position(|&b| b == b'\n') else {
            self.count_line(bytes.len(), bytes)?;
            self.line.extend_from_slice(bytes);
            return Ok(&[]);
        };
        let (piece, rest) = (&bytes[..end], &bytes[end + 1..]);
        self.count_line(end + 1, piece)?;
        if self.line.is_empty() {
            self.on_line(piece.strip_suffix(b"\r").unwrap_or(piece))?;
        } else {
            let mut line = std::mem::take(&mut self.line);
            line.extend_from_slice(piece);
            self.on_line(line.strip_suffix(b"\r").unwrap_or(&line))?;
        }
        Ok(rest)
    }

    /// Counts bytes of a line against the bound of the part of the response it belongs to.
    fn count_line(&mut self, n_bytes: usize, piece: &[u8]) -> Result<(), Malformed> {
        if matches!(self.stage, Stage::StatusLine | Stage::Fields) {
            self.n_head_bytes += n_bytes;
            if self.n_head_bytes > HEAD_MAX_BYTES {
                return Err(Malformed::HeadTooLong);
            }
        } else {
            self.n_travel_bytes += n_bytes;
            if self.line.len() + n_bytes > CHUNK_LINE_MAX_BYTES && self.stage != Stage::Trailers {
                return Err(Malformed::Chunk(quote(piece)));
            }
            if self.has_read_enough() {
                self.stage = Stage::Done;
            }
        }
        Ok(())
    }

    fn on_line(&mut self, line: &[u8]) -> Result<(), Malformed> {
        match self.stage {
            Stage::StatusLine => {
                self.status = status_of(line).ok_or_else(|| Malformed::StatusLine(quote(line)))?;
                self.framing = Framing::default();
                self.stage = Stage::Fields;
            }
            Stage::Fields if line.is_empty() => self.on_head_end()?,
            Stage::Fields => self.framing.read_field(line)?,
            Stage::ChunkSize => {
                let size = chunk_size(line).ok_or_else(|| Malformed::Chunk(quote(line)))?;
                self.stage = if size == 0 {
                    Stage::Trailers
                } else {
                    Stage::ChunkData(size)
                };
            }
            Stage::ChunkEnd if line.is_empty() => self.stage = Stage::ChunkSize,
            Stage::ChunkEnd => return Err(Malformed::Chunk(quote(line))),
            Stage::Trailers if line.is_empty() => self.stage = Stage::Done,
            Stage::Trailers => {}
            Stage::Sized(_) | Stage::UntilClose | Stage::ChunkData(_) | Stage::Done => {}
        }
        Ok(())
    }

    /// Decides what follows a head (RFC 9112, section 6.3).
    fn on_head_end(&mut self) -> Result<(), Malformed> {
        let is_interim = (100..200).contains(&self.status) && self.status != 101;
        if is_interim {
            self.n_interim += 1;
            self.stage = Stage::StatusLine;
            return if self.n_interim > INTERIM_MAX {
                Err(Malformed::Interim)
            } else {
                Ok(())
            };
        }
        let has_no_body = self.method == Method::Head || matches!(self.status, 101 | 204 | 304);
        self.stage = if has_no_body || !self.expected.contains(&self.status) {
            Stage::Done
        } else {
            self.framing.body_stage()
        };
        Ok(())
    }
}

impl Framing {
    const fn body_stage(&self) -> Stage {
        match (self.chunked, self.encoded, self.length) {
            (true, _, _) => Stage::ChunkSize,
            (false, true, _) | (false, false, None) => Stage::UntilClose,
            (false, false, Some(0)) => Stage::Done,
            (false, false, Some(length)) => Stage::Sized(length),
        }
    }

    fn read_field(&mut self, line: &[u8]) -> Result<(), Malformed> {
        if matches!(line, [b' ' | b'\t', ..]) {
            // The continuation of a field (obs-fold). None that matters here is ever folded.
            return Ok(());
        }
        let colon = line.iter().position(|&b| b == b':');
        let (name, value) = colon
            .map(|at| (&line[..at], line[at + 1..].trim_ascii()))
            .filter(|(name, _)| !name.is_empty() && name.iter().all(u8::is_ascii_graphic))
            .ok_or_else(|| Malformed::Field(quote(line)))?;
        if name.eq_ignore_ascii_case(b"content-length") {
            self.read_length(value)
                .ok_or_else(|| Malformed::ContentLength(quote(value)))?;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            let last = value
                .rsplit(|&b| b == b',')
                .next()
                .unwrap_or(value)
                .trim_ascii();
            self.encoded = true;
            self.chunked = last.eq_ignore_ascii_case(b"chunked");
        }
        Ok(())
    }

    /// A list of equal numbers counts as one of them (RFC 9110, section 8.6).
    fn read_length(&mut self, value: &[u8]) -> Option<()> {
        for text in value.split(|&b| b == b',') {
            let length = number(text.trim_ascii(), 10)?;
            if self.length.is_some_and(|earlier| earlier != length) {
                return None;
            }
            self.length = Some(length);
        }
        Some(())
    }
}

/// The status of `HTTP/1.x NNN reason`. Statuses from 600 are in use and odd, not broken.
fn status_of(line: &[u8]) -> Option<u16> {
    let [
        b'H',
        b'T',
        b'T',
        b'P',
        b'/',
        b'1',
        b'.',
        b'0'..=b'9',
        b' ',
        a,
        b,
        c,
        rest @ ..,
    ] = line
    else {
        return None;
    };
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u16::from(byte - b'0'));
    let status = digit(*a)? * 100 + digit(*b)? * 10 + digit(*c)?;
    (status >= 100 && matches!(rest, [] | [b' ', ..])).then_some(status)
}

/// The size at the beginning of a chunk's first line.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.split(|&b| b == b';').next()?;
    number(digits.trim_ascii_end(), 16)
}

/// An unsigned number without sign, blanks or overflow.
fn number(digits: &[u8], radix: u32) -> Option<u64> {
    let well_formed = !digits.is_empty() && digits.iter().all(u8::is_ascii_alphanumeric);
    let text = std::str::from_utf8(digits).ok().filter(|_| well_formed)?;
    u64::from_str_radix(text, radix).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What can be told of a response from outside.
    #[derive(Debug, PartialEq, Eq)]
    struct Read {
        status: u16,
        done: bool,
        n_body_bytes: usize,
        needle: bool,
        fed: Result<(), Malformed>,
        end: Result<(), CutShort>,
    }

    fn read(method: Method, contains: Option<&str>, bytes: &[u8], piece: usize) -> Read {
        let mut reader = Reader::new(method, 200..=399, contains);
        let mut fed = Ok(());
        for piece in bytes.chunks(piece) {
            fed = reader.feed(piece);
            if fed.is_err() {
                break;
            }
        }
        Read {
            status: reader.status(),
            done: reader.is_done(),
            n_body_bytes: reader.n_body_bytes,
            needle: reader.has_needle(),
            fed,
            end: reader.end(),
        }
    }

    fn get(text: &str) -> Read {
        read(Method::Get, None, text.as_bytes(), usize::MAX)
    }

    #[test]
    fn a_body_ends_at_its_length() {
        let whole = get("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
        assert_eq!(
            (whole.status, whole.done, whole.n_body_bytes),
            (200, true, 5)
        );
        let cut = get("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
        assert_eq!(cut.end, Err(CutShort::Body { n_bytes: 3 }));
    }

    #[test]
    fn a_chunked_body_ends_at_its_last_chunk() {
        let head =
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, Chunked\r\nContent-Length: 1\r\n\r\n";
        let whole = get(&format!("{head}5;x=y\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"));
        assert_eq!(
            (whole.done, whole.n_body_bytes, whole.fed),
            (true, 5, Ok(()))
        );
        let cut = get(&format!("{head}5\r\nhello\r\n"));
        assert_eq!(cut.end, Err(CutShort::Body { n_bytes: 5 }));
        let without_last_break = get(&format!("{head}5\r\nhello\r\n0\r\n"));
        assert_eq!(without_last_break.end, Ok(()));
        let wrong = get(&format!("{head}5\r\nhello!\r\n"));
        assert_eq!(wrong.fed, Err(Malformed::Chunk("!".to_owned())));
    }

    #[test]
    fn a_body_without_a_length_ends_with_the_connection() {
        let open = get("HTTP/1.0 200 OK\r\n\r\nhello");
        assert_eq!((open.done, open.end), (false, Ok(())));
    }

    #[test]
    fn responses_without_a_body_are_done_after_their_head() {
        for text in [
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 304 x\r\nContent-Length: 9\r\n\r\n",
        ] {
            assert!(get(text).done, "{text}");
        }
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert!(read(Method::Head, None, head, 7).done);
    }

    #[test]
    fn the_body_of_an_unexpected_status_is_not_waited_for() {
        let failed = get("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 500\r\n\r\n");
        assert_eq!((failed.status, failed.done), (503, true));
    }

    #[test]
    fn interim_responses_are_passed_over_but_not_forever() {
        let interim = "HTTP/1.1 103 Early Hints\r\nContent-Length: 7\r\n\r\n";
        let hinted = get(&format!("{interim}HTTP/1.1 200 OK\r\n\r\n"));
        assert_eq!(hinted.status, 200);
        assert_eq!(get(&interim.repeat(9)).fed, Err(Malformed::Interim));
    }

    #[test]
    fn what_is_not_http_is_malformed() {
        for text in [
            "SSH-2.0-OpenSSH_9.2\r\n",
            "HTTP/2 200\r\n",
            "HTTP/1.1 20 OK\r\n",
            "HTTP/1.1 2000\r\n",
            "\r\n",
            "HTTP/1.1 099 x\r\n",
            "HTTP/1.1 200 OK\r\nno colon\r\n",
            "HTTP/1.1 200 OK\r\nbad name: x\r\n",
            "HTTP/1.1 200 OK\r\n: x\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: \r\n",
            "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        ] {
            assert!(get(text).fed.is_err(), "{text}");
        }
    }

    #[test]
    fn what_browsers_forgive_is_forgiven() {
        for text in [
            "HTTP/1.1 200\nContent-Length: 2\n\nok",
            "HTTP/1.1 200 OK\r\nX: a\r\n b: folded\r\nContent-Length: 2, 2\r\n\r\nok",
        ] {
            let read = get(text);
            assert_eq!(
                (read.done, read.n_body_bytes, read.fed),
                (true, 2, Ok(())),
                "{text}"
            );
        }
    }

    #[test]
    fn an_endless_head_is_refused_within_its_bound() {
        let mut reader = Reader::new(Method::Get, 200..=399, None);
        reader.feed(b"HTTP/1.1 200 OK\r\n").unwrap();
        let mut n_fed = 0;
        while reader.feed(&[b'x'; 512]).is_ok() {
            n_fed += 512;
            assert!(n_fed <= HEAD_MAX_BYTES && reader.line.len() <= HEAD_MAX_BYTES);
        }
    }

    #[test]
    fn a_body_is_read_to_its_cap_and_no_further() {
        let mut body = b"HTTP/1.1 200 OK\r\nContent-Length: 9999999999\r\n\r\n".to_vec();
        body.resize(body.len() + BODY_MAX_BYTES, b'x');
        let read = read(Method::Get, Some("y"), &body, 4_096);
        assert_eq!(
            (read.done, read.n_body_bytes, read.needle),
            (true, BODY_MAX_BYTES, false)
        );
    }

    #[test]
    fn a_body_of_tiny_chunks_is_read_to_the_cap_of_what_travels() {
        let mut reader = Reader::new(Method::Get, 200..=399, None);
        reader
            .feed(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
            .unwrap();
        let mut n_fed = 0;
        while !reader.is_done() {
            reader.feed(b"1\r\nx\r\n").unwrap();
            n_fed += 6;
        }
        assert!(n_fed <= TRAVEL_MAX_BYTES + 6);
    }

    /// Bytes that look like HTTP often enough to reach every stage.
    fn http_like() -> impl Strategy<Value = Vec<u8>> {
        let word = prop_oneof![
            4 => Just(b"HTTP/1.1 200 OK\r\n".to_vec()),
            1 => Just(b"HTTP/1.1 100 Continue\r\n\r\n".to_vec()),
            3 => Just(b"\r\n".to_vec()),
            2 => Just(b"Content-Length: 12\r\n".to_vec()),
            2 => Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
            2 => Just(b"5\r\nhello\r\n".to_vec()),
            1 => Just(b"0\r\n".to_vec()),
            1 => Just(b"hello world!".to_vec()),
            1 => Just(b"\n".to_vec()),
            1 => proptest::collection::vec(any::<u8>(), 0..20),
        ];
        proptest::collection::vec(word, 0..12).prop_map(|words| words.concat())
    }

    proptest! {
        #[test]
        fn how_the_bytes_are_cut_changes_nothing(
            tail in http_like(),
            piece in 1_usize..16,
            starts_well in any::<bool>(),
        ) {
            let mut bytes = if starts_well { b"HTTP/1.1 200 OK\r\n".to_vec() } else { Vec::new() };
            bytes.extend(tail);
            let whole = read(Method::Get, Some("lo w"), &bytes, usize::MAX);
            let pieces = read(Method::Get, Some("lo w"), &bytes, piece);
            // An error quotes what had arrived of the line, which does depend on the cut.
            prop_assert_eq!(whole.fed.is_ok(), pieces.fed.is_ok());
            if whole.fed.is_ok() {
                prop_assert_eq!(whole, pieces);
            }
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in any::<Vec<u8>>(), piece in 1_usize..64) {
            let _whatever = read(Method::Get, Some("x"), &bytes, piece);
        }
    }
}
