//! Lets one agent enrol.

use picket_wire::id::TokenId;
use picket_wire::name::Name;
use picket_wire::time::{Span, Timestamp};
use rkyv::{Archive, Deserialize, Serialize};

use crate::machine::Fold;
use crate::reply::{Reject, Reply};
use crate::state::JoinToken;

/// Most join tokens at a time: more than the largest fleet enrols at once.
const JOIN_TOKENS_MAX: usize = 16_384;
/// How long an expired token is remembered, so that its bearer is told that it expired.
const EXPIRED_KEPT: Span = Span::from_secs(86_400);

/// Lets one agent enrol.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct IssueJoinToken {
    /// SHA-256 of the secret, which the proposer made up.
    pub hash: [u8; 32],
    /// From when on it admits nobody.
    pub expires_at: Timestamp,
    /// The only region it admits to, if any.
    pub region: Option<Name>,
}

impl IssueJoinToken {
    pub(crate) fn apply(&self, fold: &mut Fold<'_>) -> Result<Reply, Reject> {
        let now = fold.at;
        fold.state
            .join_tokens
            .retain(|_, token| token.expires_at + EXPIRED_KEPT > now);
        if fold.state.join_tokens.len() >= JOIN_TOKENS_MAX {
            return Err(too_many_tokens());
        }
        if fold
            .state
            .join_tokens
            .values()
            .any(|token| token.hash == self.hash)
        {
            return Err(Reject::TokenExists);
        }
        fold.state.last_ids.token += 1;
        let id = TokenId(fold.state.last_ids.token);
        let token = JoinToken {
            hash: self.hash,
            expires_at: self.expires_at,
            region: self.region.clone(),
            used_by: None,
        };
        fold.state.join_tokens.insert(id, token);
        Ok(Reply::Token(id))
    }
}

fn too_many_tokens() -> Reject {
    Reject::TooMany {
        what: "join tokens".to_owned(),
        max: 16_384,
    }
}

#[cfg(test)]
mod tests {
    use picket_wire::time::{Span, Timestamp};

    use super::*;
    use crate::command::Command;
    use crate::testing::World;

    #[test]
    fn expired_tokens_are_forgotten_a_day_later() {
        let mut world = World::started();
        let issue = |hash| {
            Command::IssueJoinToken(IssueJoinToken {
                hash: [hash; 32],
                expires_at: Timestamp(2_000),
                region: None,
            })
        };
        world.at(1_000).apply(issue(1));
        assert_eq!(world.apply(issue(1)), Reply::Rejected(Reject::TokenExists));
        world.at(3_000).apply(issue(2));
        assert_eq!(world.state().join_tokens.len(), 2);
        world
            .at((Timestamp(2_000) + Span::from_secs(86_400)).0)
            .apply(issue(3));
        assert_eq!(world.state().join_tokens.len(), 1);
    }
}
