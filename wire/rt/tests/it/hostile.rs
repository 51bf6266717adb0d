//! Bytes of strangers: whatever they are, they make an error and no panic.

use std::path::Path;

use picket_rt::identity::{AgentKey, csr_public_key_fingerprint};
use picket_rt::join_token::JoinToken;
use picket_rt::settings;
use proptest::prelude::{any, prop, prop_assert, prop_assert_eq, proptest};

#[derive(Debug, serde::Deserialize)]
#[serde(deny_unknown_fields)]
struct Settings {
    #[expect(dead_code, reason = "only there to be known")]
    region: String,
}

proptest! {
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
    fn a_damaged_request_is_refused(at in any::<prop::sample::Index>(), flip in 1_u8..) {
        let (_, mut request) = AgentKey::generate().unwrap();
        let at = at.index(request.len());
        request[at] ^= flip;
        prop_assert!(csr_public_key_fingerprint(&request).is_err());
    }

    #[test]
    fn any_settings_text_is_read_or_refused_with_its_line(text in "(region|rigion|\\[a\\]|=|\"x\"|\n|é|#){0,12}") {
        if let Err(error) = settings::parse::<Settings>(Path::new("agent.toml"), &text) {
            prop_assert!(error.to_string().starts_with("agent.toml:"), "{}", error);
        }
    }
}
