//! Lets somebody use the API no more.

use picket_wire::id::TokenId;
use rkyv::{Archive, Deserialize, Serialize};

use crate::machine::Fold;
use crate::reply::{Reject, Reply};

/// Lets somebody use the API no more.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct RevokeApiToken {
    /// Which token.
    pub token: TokenId,
}

impl RevokeApiToken {
    pub(crate) fn apply(&self, fold: &mut Fold<'_>) -> Result<Reply, Reject> {
        let removed = fold.state.api_tokens.remove(&self.token);
        removed
            .map(|_| Reply::Done)
            .ok_or(Reject::UnknownApiToken(self.token))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::{Command, IssueApiToken};
    use crate::state::Scope;
    use crate::testing::{World, name};

    #[test]
    fn a_revoked_token_is_gone_and_a_secret_is_issued_once() {
        let mut world = World::started();
        let issue = Command::IssueApiToken(IssueApiToken {
            hash: [1; 32],
            name: name("ci"),
            scope: Scope::Write,
        });
        assert_eq!(world.apply(issue.clone()), Reply::Token(TokenId(1)));
        assert_eq!(world.apply(issue), Reply::Rejected(Reject::TokenExists));
        let revoke = Command::RevokeApiToken(RevokeApiToken { token: TokenId(1) });
        assert_eq!(world.apply(revoke.clone()), Reply::Done);
        assert!(world.state().api_tokens.is_empty());
        assert_eq!(
            world.apply(revoke),
            Reply::Rejected(Reject::UnknownApiToken(TokenId(1)))
        );
    }
}
