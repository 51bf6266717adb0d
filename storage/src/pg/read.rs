//! What people ask: lists, single things, timelines, coverage, latency.
//!
//! Every list is bounded and paged by key, so that a page deep in five million endpoints costs what
//! the first one does. An endpoint's effective state is decided here, in one place: paused; else
//! what was last decided; else up, if its shard was watched since the endpoint is; else unknown.

pub mod audit;
pub mod counts;
pub mod coverage;
pub mod deliveries;
pub mod endpoints;
pub mod events;
pub mod incidents;
pub mod latency;
pub mod sites;
pub mod timeline;

use picket_wire::reason::Reason;
use picket_wire::state::{State, Verdict};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::pg::{Pg, PgError};

/// Most rows of one page.
pub const PAGE_MAX: u32 = 1_000;

/// Answers questions about what is stored.
#[derive(Debug, Clone)]
pub struct Reads {
    pg: Pg,
}

impl Reads {
    /// Reads from this Postgres.
    #[must_use]
    pub const fn new(pg: Pg) -> Self {
        Self { pg }
    }
}

/// Which page of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Page<K> {
    /// The last key of the page before; `None` for the first page.
    pub after: Option<K>,
    /// How many rows, at most [`PAGE_MAX`].
    pub limit: u32,
}

impl<K> Page<K> {
    /// The first page.
    #[must_use]
    pub const fn first(limit: u32) -> Self {
        Self { after: None, limit }
    }

    /// One row more than asked for, which tells whether there is another page.
    fn fetch(&self) -> i64 {
        i64::from(self.limit.min(PAGE_MAX)) + 1
    }

    fn cut<T>(&self, mut rows: Vec<T>, key: impl Fn(&T) -> K) -> Listed<T, K> {
        let limit = usize::try_from(self.limit.min(PAGE_MAX)).expect("a page is short");
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = if more { rows.last().map(key) } else { None };
        Listed { rows, next }
    }
}

/// A page of a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed<T, K> {
    /// The rows, in the order of the list.
    pub rows: Vec<T>,
    /// Where the next page begins; `None` on the last.
    pub next: Option<K>,
}

/// A query that grows condition by condition; values travel as parameters, never as text.
struct Query<'a> {
    sql: String,
    values: Vec<&'a (dyn ToSql + Sync)>,
    conditions: usize,
}

impl<'a> Query<'a> {
    fn new(select: &str) -> Self {
        Self {
            sql: select.to_owned(),
            values: Vec::new(),
            conditions: 0,
        }
    }

    /// Adds a condition in which `?` stands for the value.
    fn and(&mut self, condition: &str, value: &'a (dyn ToSql + Sync)) {
        self.values.push(value);
        let place = format!("${}", self.values.len());
        self.and_always(&condition.replace('?', &place));
    }

    fn and_always(&mut self, condition: &str) {
        self.sql.push_str(if self.conditions == 0 {
            " WHERE "
        } else {
            " AND "
        });
        self.sql.push_str(condition);
        self.conditions += 1;
    }

    fn then(&mut self, tail: &str, value: &'a (dyn ToSql + Sync)) {
        self.values.push(value);
        self.sql
            .push_str(&tail.replace('?', &format!("${}", self.values.len())));
    }

    async fn run(&self, pg: &Pg) -> Result<Vec<Row>, PgError> {
        Ok(pg.client().await?.query(&self.sql, &self.values).await?)
    }
}

/// Reads columns one after the other, so that a list of columns and its reader stay in step.
struct Fields<'a> {
    row: &'a Row,
    next: usize,
}

impl<'a> Fields<'a> {
    const fn of(row: &'a Row) -> Self {
        Self { row, next: 0 }
    }

    fn take<T: tokio_postgres::types::FromSql<'a>>(&mut self) -> Result<T, PgError> {
        let column = self.next;
        self.next += 1;
        Ok(self.row.try_get(column)?)
    }

    fn u64(&mut self) -> Result<u64, PgError> {
        Ok(self.take::<i64>()?.cast_unsigned())
    }

    fn maybe_u64(&mut self) -> Result<Option<u64>, PgError> {
        Ok(self.take::<Option<i64>>()?.map(i64::cast_unsigned))
    }

    fn u32(&mut self) -> Result<u32, PgError> {
        Ok(self.take::<i32>()?.cast_unsigned())
    }

    fn maybe_u32(&mut self) -> Result<Option<u32>, PgError> {
        Ok(self.take::<Option<i32>>()?.map(i32::cast_unsigned))
    }

    fn state(&mut self) -> Result<State, PgError> {
        let code = self.take()?;
        State::from_code(code).ok_or_else(|| PgError::stored("state", code))
    }

    fn reason(&mut self) -> Result<Reason, PgError> {
        self.maybe_reason()?
            .ok_or_else(|| PgError::stored("reason", "null"))
    }

    fn maybe_reason(&mut self) -> Result<Option<Reason>, PgError> {
        let code: Option<i16> = self.take()?;
        code.map(|code| {
            let reason = u8::try_from(code).ok().and_then(Reason::from_code);
            reason.ok_or_else(|| PgError::stored("reason", code))
        })
        .transpose()
    }

    fn maybe_verdict(&mut self) -> Result<Option<Verdict>, PgError> {
        let code: Option<i16> = self.take()?;
        code.map(|code| Verdict::from_code(code).ok_or_else(|| PgError::stored("verdict", code)))
            .transpose()
    }
}
