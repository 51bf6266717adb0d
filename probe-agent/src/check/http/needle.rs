//! A search for one text in a body that arrives in pieces.
//!
//! Knuth, Morris and Pratt's automaton: what is kept between pieces is one number, and no body
//! can make it look at a byte more than twice.

use picket_wire::limits::NEEDLE_MAX_BYTES;

/// The search, and how far it has come.
#[derive(Debug)]
pub(crate) struct Needle<'a> {
    pattern: &'a [u8],
    /// For each prefix, the length of its longest proper border: where to go on after a mismatch.
    borders: Vec<u16>,
    n_matched: usize,
}

impl<'a> Needle<'a> {
    /// A search for `pattern`, cut at [`NEEDLE_MAX_BYTES`], which a valid check never exceeds.
    pub(crate) fn new(pattern: &'a str) -> Self {
        let pattern = pattern.as_bytes();
        let pattern = pattern.get(..NEEDLE_MAX_BYTES).unwrap_or(pattern);
        let mut borders: Vec<u16> = Vec::with_capacity(pattern.len());
        let mut border = 0_u16;
        for (at, &byte) in pattern.iter().enumerate() {
            while border > 0 && pattern[usize::from(border)] != byte {
                border = borders[usize::from(border) - 1];
            }
            if at > 0 && pattern[usize::from(border)] == byte {
                border += 1;
            }
            borders.push(border);
        }
        Self {
            pattern,
            borders,
            n_matched: 0,
        }
    }

    /// Whether the text has been seen.
    pub(crate) const fn is_found(&self) -> bool {
        self.n_matched == self.pattern.len()
    }

    /// Looks through the next piece.
    pub(crate) fn feed(&mut self, piece: &[u8]) {
        for &byte in piece {
            if self.is_found() {
                return;
            }
            while self.n_matched > 0 && self.pattern[self.n_matched] != byte {
                self.n_matched = usize::from(self.borders[self.n_matched - 1]);
            }
            if self.pattern[self.n_matched] == byte {
                self.n_matched += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn found(pattern: &str, body: &[u8], piece: usize) -> bool {
        let mut needle = Needle::new(pattern);
        body.chunks(piece).for_each(|piece| needle.feed(piece));
        needle.is_found()
    }

    proptest! {
        /// Two letters make borders and near misses common.
        #[test]
        fn it_finds_what_a_naive_search_finds(
            pattern in "[ab]{1,8}",
            body in "[ab]{0,64}",
            piece in 1_usize..10,
        ) {
            prop_assert_eq!(found(&pattern, body.as_bytes(), piece), body.contains(&pattern));
        }
    }

    #[test]
    fn a_text_across_two_pieces_is_found() {
        assert!(found("welcome", b"...wwelcome...", 5));
        assert!(!found("welcome", b"welcom", 5));
    }
}
