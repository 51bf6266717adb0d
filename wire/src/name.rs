//! Validated short names: a region, a zone, a network, a label.

use std::fmt;

use rkyv::{Archive, Deserialize, Serialize};

use crate::limits::NAME_MAX_BYTES;

/// A name that breaks the rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected 1 to {NAME_MAX_BYTES} characters of a-z, 0-9, `-`, `.` and `_`, beginning with a letter or digit, got `{0}`"
)]
pub struct NameError(pub String);

/// Lower-case text that is safe in a label, a path and a certificate.
#[derive(
    Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Archive, Serialize, Deserialize, serde::Serialize,
)]
#[serde(transparent)]
pub struct Name(String);

impl Name {
    /// Checks `text` against the rule.
    ///
    /// # Errors
    /// When it is empty, too long, or has a character outside the alphabet.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-._".contains(&b);
        let starts_well = text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
        if starts_well && text.len() <= NAME_MAX_BYTES && text.bytes().all(allowed) {
            Ok(Self(text.to_owned()))
        } else {
            Err(NameError(text.chars().take(NAME_MAX_BYTES).collect()))
        }
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Name {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        Self::parse(text)
    }
}

impl utoipa::PartialSchema for Name {
    fn schema() -> utoipa::openapi::RefOr<utoipa::openapi::Schema> {
        utoipa::openapi::ObjectBuilder::new()
            .schema_type(utoipa::openapi::schema::Type::String)
            .pattern(Some("^[a-z0-9][a-z0-9._-]*$"))
            .max_length(Some(NAME_MAX_BYTES))
            .into()
    }
}

impl utoipa::ToSchema for Name {}

impl<'de> serde::Deserialize<'de> for Name {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(d)?;
        Self::parse(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_the_alphabet() {
        assert!(Name::parse("eu-west.1").is_ok());
        for text in [
            "",
            "-eu",
            "EU",
            "eu west",
            "eu/west",
            "é",
            &"a".repeat(NAME_MAX_BYTES + 1),
        ] {
            assert!(Name::parse(text).is_err(), "{text}");
        }
    }
}
