//! Joining a mesh: a key is made here, a token is spent there, a certificate comes back.
//!
//! The token's secret is sent only to a member whose authority has the fingerprint that the token
//! carries. The state is saved last: an enrolment that was cut off is no enrolment.

use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use picket_rt::chain;
use picket_rt::identity::{AgentKey, IdentityError, Peer, SignError};
use picket_rt::join_token::{JoinToken, ParseJoinTokenError};
use picket_rt::quic::{AskError, ConnectError, ask, connect_to_enrol};
use picket_storage::FileFault;
use picket_storage::spool::AgentState;
use picket_wire::codec::{DecodeError, decode, encode};
use picket_wire::control::{Admission, EnrolRefusal, EnrolReply, EnrolRequest};
use picket_wire::envelope::Head;
use picket_wire::id::AgentId;
use picket_wire::limits::PAYLOAD_MAX_BYTES;

use crate::cache::{self, RememberError};
use crate::config::Config;
use crate::spool::{self, SpoolError};

/// Longest token file that is read; a token has some 130 characters.
const TOKEN_FILE_MAX: u64 = 4_096;
/// Members asked in turn, those named by other members included.
const ASKED_MAX: usize = 16;

/// A token could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadTokenError {
    /// The file does not read.
    #[error("read the token from `{}`", .path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system says.
        #[source]
        source: io::Error,
    },
    /// What is in it is no token.
    #[error("the join token")]
    Parse(#[from] ParseJoinTokenError),
}

/// Why an agent was not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// No key could be made.
    #[error("make a key")]
    Key(#[from] SignError),
    /// The leader refused.
    #[error(transparent)]
    Refused(#[from] EnrolRefusal),
    /// No member could answer; the last one failed so.
    #[error("no member enrolled this agent; `{address}` was asked last")]
    Nobody {
        /// Who was asked last.
        address: String,
        /// What happened.
        #[source]
        source: AskMemberError,
    },
    /// What came back is no identity.
    #[error("use the certificate")]
    Identity(#[from] IdentityError),
    /// The certificate is not for the agent that was admitted.
    #[error("the certificate is {certificate}'s, the admission {admitted}'s")]
    Mixed {
        /// Whose certificate came.
        certificate: Peer,
        /// Who was admitted.
        admitted: AgentId,
    },
    /// The spools could not be begun.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// Something could not be written.
    #[error(transparent)]
    Remember(#[from] RememberError),
    /// The state could not be written.
    #[error("save the agent's state")]
    State(#[from] FileFault),
}

/// Why one member did not enrol us.
#[derive(Debug, thiserror::Error)]
pub enum AskMemberError {
    /// Its name does not resolve.
    #[error("look the address up")]
    Lookup(#[source] io::Error),
    /// Its name has no address.
    #[error("the name has no address")]
    NoAddress,
    /// It does not answer, or is somebody else.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The request failed.
    #[error("ask")]
    Ask(#[from] AskError),
    /// The answer does not read.
    #[error("read the answer")]
    Decode(#[from] DecodeError),
    /// It does not lead and knows nobody new who does.
    #[error("it does not lead and names nobody who does")]
    NotLeader,
}

/// Reads a join token from a file, or from standard input for `-`. Never from an argument, where
/// every user of the machine would see it.
///
/// # Errors
/// When the file does not read or holds no token.
pub fn read_token(path: &Path) -> Result<JoinToken, ReadTokenError> {
    let mut text = String::new();
    let read = if path == Path::new("-") {
        io::stdin().take(TOKEN_FILE_MAX).read_to_string(&mut text)
    } else {
        fs::File::open(path).and_then(|file| file.take(TOKEN_FILE_MAX).read_to_string(&mut text))
    };
    read.map_err(|source| ReadTokenError::Io {
        path: path.to_owned(),
        source,
    })?;
    Ok(text.trim().parse()?)
}

/// Enrols the agent that `config` describes, anew if it was enrolled before.
///
/// # Errors
/// When no member admits it, or what comes back cannot be kept.
pub async fn enrol(config: &Config, token: &JoinToken) -> Result<AgentId, EnrolError> {
    let (key, csr) = AgentKey::generate()?;
    let request = EnrolRequest {
        token: token.secret().to_owned(),
        csr,
        name: config.name.clone(),
        region: config.region.clone(),
        zone: config.zone.clone(),
        network: config.network.clone(),
    };
    let admission = ask_around(&config.members, token, &request).await?;
    keep(config, key, admission)
}

/// Asks one member after the other, and whom they name.
async fn ask_around(
    members: &[String],
    token: &JoinToken,
    request: &EnrolRequest,
) -> Result<Admission, EnrolError> {
    let mut addresses = members.to_vec();
    let mut asked = 0;
    loop {
        let address = addresses[asked].clone();
        let failed = match ask_member(&address, token, request).await {
            Ok(EnrolReply::Admitted(admission)) => return Ok(admission),
            Ok(EnrolReply::Refused(refusal)) => return Err(refusal.into()),
            Ok(EnrolReply::NotLeader { leader }) => {
                let new = leader.filter(|leader| !addresses.contains(leader));
                addresses.extend(new.filter(|_| addresses.len() < ASKED_MAX));
                AskMemberError::NotLeader
            }
            Err(error) => error,
        };
        tracing::info!(%address, error = %chain(&failed), "not enrolled here");
        asked += 1;
        if asked == addresses.len() {
            return Err(EnrolError::Nobody {
                address,
                source: failed,
            });
        }
    }
}

async fn ask_member(
    address: &str,
    token: &JoinToken,
    request: &EnrolRequest,
) -> Result<EnrolReply, AskMemberError> {
    let found = tokio::net::lookup_host(address)
        .await
        .map_err(AskMemberError::Lookup)?;
    let addr = found.into_iter().next().ok_or(AskMemberError::NoAddress)?;
    let link = connect_to_enrol(addr, token.ca_fingerprint()).await?;
    let answer = ask(
        &link.connection,
        &encode(request, Head::NONE),
        PAYLOAD_MAX_BYTES,
    )
    .await?;
    let (_, reply) = decode::<EnrolReply>(&answer)?;
    Ok(reply)
}

fn keep(config: &Config, key: AgentKey, admission: Admission) -> Result<AgentId, EnrolError> {
    let Admission {
        agent,
        incarnation,
        certificate,
        ca,
        members,
    } = admission;
    let dir = &config.data_dir;
    let identity = key.certified(&certificate, &ca)?;
    if identity.peer() != Peer::Agent(agent) {
        return Err(EnrolError::Mixed {
            certificate: identity.peer(),
            admitted: agent,
        });
    }
    spool::create(dir, incarnation, &config.limits)?;
    identity.save(dir)?;
    cache::forget_assigned(dir)?;
    cache::save_members(dir, &members)?;
    AgentState { agent, incarnation }.save(dir)?;
    tracing::info!(%agent, %incarnation, members = members.len(), "enrolled");
    Ok(agent)
}
