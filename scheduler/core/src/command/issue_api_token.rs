//! Lets somebody use the API.

use picket_wire::id::TokenId;
use picket_wire::name::Name;
use rkyv::{Archive, Deserialize, Serialize};

use crate::machine::Fold;
use crate::reply::{Reject, Reply};
use crate::state::{ApiToken, Scope};

/// Most API tokens: they are looked through at every request.
const API_TOKENS_MAX: usize = 1_024;

/// Lets somebody use the API.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct IssueApiToken {
    /// SHA-256 of the secret, which the proposer made up.
    pub hash: [u8; 32],
    /// What it is for.
    pub name: Name,
    /// What it allows.
    pub scope: Scope,
}

impl IssueApiToken {
    pub(crate) fn apply(&self, fold: &mut Fold<'_>) -> Result<Reply, Reject> {
        if fold.state.api_tokens.len() >= API_TOKENS_MAX {
            return Err(Reject::TooMany {
                what: "API tokens".to_owned(),
                max: 1_024,
            });
        }
        if fold
            .state
            .api_tokens
            .values()
            .any(|token| token.hash == self.hash)
        {
            return Err(Reject::TokenExists);
        }
        fold.state.last_ids.token += 1;
        let id = TokenId(fold.state.last_ids.token);
        let Self { hash, name, scope } = self.clone();
        fold.state.api_tokens.insert(
            id,
            ApiToken {
                hash,
                name,
                scope,
                issued_at: fold.at,
            },
        );
        Ok(Reply::Token(id))
    }
}
