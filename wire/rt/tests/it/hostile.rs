//! Bytes of strangers: whatever they are, they make an error and no panic.

use std::path::Path;

use picket_rt::identity::{AgentKey, csr_public_key_fingerprint};
use picket_rt::join_token::JoinToken;
use picket_rt::settings;
use proptest::prelude::{ProptestConfig, any, prop, prop_assert, prop_assert_eq, proptest};

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[expect(dead_code, reason = "only there to be known")]
    region: String,
}

/// Where the part of a PKCS#10 request lies that its signature covers: behind the outer header
/// (tag and two bytes of length) and as long as its own header (tag and one byte) says.
fn signed_body(request: &[u8]) -> std::ops::Range<usize> {
    assert_eq!(
        (request[..2].to_vec(), request[3]),
        (vec![0x30, 0x81], 0x30)
    );
    3..5 + usize::from(request[4])
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]


    #[test]
    fn any_text_is_a_token_or_an_error(text in "(pkt_)?\\PC{0,200}") {
        prop_assert!(text.parse::<JoinToken>().is_err());
    }

    #[test]
    fn a_token_with_one_character_changed_is_refused(at in any::<prop::sample::Index>(), to in "[A-Za-z0-9._-]") {
        let token = JoinToken::generate([7; 32]).unwrap();
        let mut text = token.to_string();
        let at = at.index(text.len());
        text.replace_range(at..=at, &to);
        match text.parse::<JoinToken>() {
            Ok(parsed) => prop_assert_eq!(parsed, token),
            Err(error) => prop_assert!(!error.to_string().contains(token.secret())),
        }
    }

    #[test]
    fn a_damaged_request_is_refused_or_still_speaks_of_the_same_key(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let (_, mut request) = AgentKey::generate().unwrap();
        let original = csr_public_key_fingerprint(&request).unwrap();
        let signed = signed_body(&request);
        let at = at.index(request.len());
        request[at] ^= flip;
        match csr_public_key_fingerprint(&request) {
            Err(_) => {}
            // Outer tags and the padding of the signature are signed by nobody and mean nothing.
            Ok(key) => prop_assert!(!signed.contains(&at) && key == original, "byte {}", at),
        }
    }

    #[test]
    fn any_settings_text_is_read_or_refused_with_its_line(text in "(region|rigion|\\[a\\]|=|\"x\"|\n|é|#){0,12}") {
        if let Err(error) = settings::parse::<Settings>(Path::new("agent.toml"), &text) {
            prop_assert!(error.to_string().starts_with("agent.toml:"), "{}", error);
        }
    }
}
