//! Who an agent is, across restarts.

use std::path::Path;

use picket_wire::id::{AgentId, Incarnation};

use crate::durable::{Damage, Directory, FileFault, UnsealError};

/// The name an agent was given and its current incarnation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgentState {
    /// Given at enrolment.
    pub agent: AgentId,
    /// Raised at each enrolment.
    pub incarnation: Incarnation,
}

/// The file inside the agent's directory.
const FILE: &str = "agent";

impl AgentState {
    /// Reads the state kept in `dir`; `None` before the first enrolment.
    ///
    /// # Errors
    /// When the file is not what was written: enrol again.
    pub fn load(dir: &Path) -> Result<Option<Self>, UnsealError> {
        let directory = Directory::open(dir)?;
        let Some(bytes) = directory.unseal(FILE)? else {
            return Ok(None);
        };
        let Ok([a, b, c, d, e, f, g, h]) = <[u8; 8]>::try_from(bytes) else {
            let path = dir.join(FILE);
            return Err(Damage {
                path,
                offset: 0,
                what: "an agent's state has two numbers",
            }
            .into());
        };
        Ok(Some(Self {
            agent: AgentId(u32::from_le_bytes([a, b, c, d])),
            incarnation: Incarnation(u32::from_le_bytes([e, f, g, h])),
        }))
    }

    /// Keeps the state in `dir`; durable on return. Only after the spools of this incarnation were
    /// created.
    ///
    /// # Errors
    /// When the operating system refuses; the old state then stands.
    pub fn save(&self, dir: &Path) -> Result<(), FileFault> {
        let bytes = [self.agent.0.to_le_bytes(), self.incarnation.0.to_le_bytes()].concat();
        Directory::open(dir)?.seal(FILE, &bytes)
    }
}
