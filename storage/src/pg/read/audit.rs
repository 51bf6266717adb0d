//! The audit log: what happened to agents and assignments.

use picket_wire::id::{AgentId, Epoch, FactSeq, GroupId, ShardId, ShardSlot, Slot};
use picket_wire::time::Timestamp;
use tokio_postgres::Row;

use crate::pg::PgError;
use crate::pg::read::{Fields, Listed, Page, Query, Reads};

/// Which lines; everything that is given must hold.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// About this agent.
    pub agent: Option<AgentId>,
    /// About this slot.
    pub slot: Option<ShardSlot>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditRow {
    /// The fact's number.
    pub seq: FactSeq,
    /// When it was decided.
    pub at: Timestamp,
    /// `agent` or `assigned`.
    pub kind: String,
    /// What happened, or why the slot moved.
    pub change: String,
    /// The agent.
    pub agent: Option<AgentId>,
    /// The slot that moved, and the epoch it moved to.
    pub slot: Option<(ShardSlot, Epoch)>,
}

impl Reads {
    /// The audit log, newest first.
    ///
    /// # Errors
    /// When Postgres is away.
    pub async fn audit(
        &self,
        filter: AuditFilter,
        page: Page<FactSeq>,
    ) -> Result<Listed<AuditRow, FactSeq>, PgError> {
        let before = page.after.map(|before| before.0.cast_signed());
        let agent = filter.agent.map(|agent| agent.0.cast_signed());
        let slot = filter.slot.map(|slot| {
            (
                slot.group.0.cast_signed(),
                slot.shard.0.cast_signed(),
                i16::from(slot.slot.0),
            )
        });
        let limit = page.fetch();
        let mut query = Query::new(
            "SELECT seq, at, kind, change, agent, group_id, shard, slot, epoch FROM audit_log",
        );
        if let Some(before) = &before {
            query.and("seq < ?", before);
        }
        if let Some(agent) = &agent {
            query.and("agent = ?", agent);
        }
        if let Some((group, shard, slot)) = &slot {
            query.and("group_id = ?", group);
            query.and("shard = ?", shard);
            query.and("slot = ?", slot);
        }
        query.then(" ORDER BY seq DESC LIMIT ?", &limit);
        let rows = query.run(&self.pg).await?;
        let rows = rows.iter().map(row_of).collect::<Result<_, _>>()?;
        Ok(page.cut(rows, |row: &AuditRow| row.seq))
    }
}

fn row_of(row: &Row) -> Result<AuditRow, PgError> {
    let mut fields = Fields::of(row);
    Ok(AuditRow {
        seq: FactSeq(fields.u64()?),
        at: Timestamp(fields.take()?),
        kind: fields.take()?,
        change: fields.take()?,
        agent: fields.maybe_u32()?.map(AgentId),
        slot: slot_of(&mut fields)?,
    })
}

fn slot_of(fields: &mut Fields<'_>) -> Result<Option<(ShardSlot, Epoch)>, PgError> {
    let group = fields.maybe_u32()?.map(GroupId);
    let shard = fields.maybe_u32()?.map(ShardId);
    let slot = fields
        .take::<Option<i16>>()?
        .and_then(|slot| u8::try_from(slot).ok())
        .map(Slot);
    let epoch = fields.maybe_u32()?.map(Epoch);
    let (Some(group), Some(shard), Some(slot), Some(epoch)) = (group, shard, slot, epoch) else {
        return Ok(None);
    };
    Ok(Some((ShardSlot { group, shard, slot }, epoch)))
}
