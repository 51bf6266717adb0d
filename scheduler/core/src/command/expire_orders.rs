//! Nobody else will vote on these orders: they are decided with the votes that are there.
//!
//! Whether a vantage *exists* is in the machine's own registry and decides between `Down` and
//! `Unknown`. Whether it is *alive* is known to the leader alone. So the leader may end the
//! waiting early by saying how many vantages are left to wait for, but it cannot make one
//! observer's word count for more.

use picket_wire::id::OrderId;
use rkyv::{Archive, Deserialize, Serialize};

use crate::machine::Fold;
use crate::reply::{Reject, Reply};

/// Most orders in one entry; a storm is several entries.
pub const EXPIRED_MAX: usize = 16_384;

/// Nobody else will vote on these orders. One that is over by then is passed over.
#[derive(Debug, Clone, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct ExpireOrders {
    /// At most [`EXPIRED_MAX`].
    pub orders: Vec<Expired>,
}

/// Nobody else will vote on this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Archive, Serialize, Deserialize)]
pub struct Expired {
    /// Which order.
    pub order: OrderId,
    /// Distinct vantages besides the owner's that have voted or that the leader holds for alive
    /// and healthy: before the deadline, no more than these are waited for. From the deadline on
    /// it means nothing.
    pub vantages: u8,
}

impl ExpireOrders {
    pub(crate) fn apply(&self, fold: &mut Fold<'_>) -> Result<Reply, Reject> {
        if self.orders.len() > EXPIRED_MAX {
            return Err(Reject::TooMany {
                what: "orders".to_owned(),
                max: 16_384,
            });
        }
        for expired in &self.orders {
            fold.order_ended(expired.order, expired.vantages);
        }
        Ok(Reply::Done)
    }
}
