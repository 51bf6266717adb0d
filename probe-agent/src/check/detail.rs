//! Diagnostic text that is safe to store, log and show.
//!
//! Part of it is written by whoever runs the target, so it is one line, without control
//! characters, and short.

use std::error::Error;

use picket_wire::limits::DETAIL_MAX_BYTES;

/// `error` and its causes as one bounded line.
pub(crate) fn of_error(error: &dyn Error) -> String {
    clean(&picket_rt::chain(error).to_string())
}

/// At most [`DETAIL_MAX_BYTES`] bytes of `text`, with a space for every character that could
/// break a line, move a cursor or turn the direction of writing.
pub(crate) fn clean(text: &str) -> String {
    let mut kept = String::with_capacity(text.len().min(DETAIL_MAX_BYTES));
    for shown in text.chars().map(|c| if is_unsafe(c) { ' ' } else { c }) {
        if kept.len() + shown.len_utf8() > DETAIL_MAX_BYTES {
            break;
        }
        kept.push(shown);
    }
    kept
}

/// A short quotation of bytes that a peer sent.
pub(crate) fn quote(bytes: &[u8]) -> String {
    // Enough to recognise a protocol by its greeting.
    const QUOTE_MAX_BYTES: usize = 48;
    let cut = bytes.get(..QUOTE_MAX_BYTES).unwrap_or(bytes);
    clean(String::from_utf8_lossy(cut).trim_end())
}

/// Control characters, line and paragraph separators, bidirectional and invisible formatting.
fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn whatever_comes_in_one_bounded_line_goes_out(text in any::<String>()) {
            let kept = clean(&text);
            prop_assert!(kept.len() <= DETAIL_MAX_BYTES);
            prop_assert!(!kept.chars().any(is_unsafe));
        }

        #[test]
        fn any_bytes_can_be_quoted(bytes in any::<Vec<u8>>()) {
            prop_assert!(quote(&bytes).len() <= DETAIL_MAX_BYTES);
        }
    }

    #[test]
    fn harmless_text_stays_as_it_is() {
        assert_eq!(clean("Zertifikat läuft ab"), "Zertifikat läuft ab");
        assert_eq!(clean("a\r\nb\u{1b}[31m\u{202e}c"), "a  b [31m c");
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let kept = clean(&"ä".repeat(DETAIL_MAX_BYTES));
        assert_eq!(kept.chars().count(), DETAIL_MAX_BYTES / 2);
    }
}
