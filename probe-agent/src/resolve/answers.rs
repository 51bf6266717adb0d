//! Answers of name servers, for as long as they may be used.
//!
//! A look-up here is one table access, because it happens in every probe of a named site.
//!
//! Past its bound the cache learns nothing new until old answers have had their time. To forget
//! the oldest instead would, for an agent that probes somewhat more names than there are places in
//! turn, forget each answer just before it is needed.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use crate::resolve::ResolveError;

/// How often places of answers past their time are given away while all are taken.
const SWEEP_EVERY: Duration = Duration::from_secs(5);

/// Addresses, never none of them; or why there are none.
pub(crate) type Answer = Result<Arc<[IpAddr]>, ResolveError>;

/// The cache.
pub(crate) struct Answers {
    names_max: usize,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_name: HashMap<Box<str>, (Answer, Instant)>,
    swept: Option<Instant>,
}

impl Answers {
    pub(crate) fn new(names_max: usize) -> Self {
        Self {
            names_max,
            known: Mutex::default(),
        }
    }

    /// What was said about `name`, if it may still be used.
    pub(crate) fn find(&self, name: &str, now: Instant) -> Option<Answer> {
        // Every change is complete before the lock is given back, so a poisoned one holds.
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known
            .by_name
            .get(name)
            .filter(|(_, until)| now < *until)
            .map(|(answer, _)| answer.clone())
    }

    /// Remembers `answer` until `until`.
    pub(crate) fn learn(&self, name: &str, answer: &Answer, now: Instant, until: Instant) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = known.by_name.get_mut(name) {
            *place = (answer.clone(), until);
            return;
        }
        if known.by_name.len() >= self.names_max {
            known.sweep(now);
        }
        if known.by_name.len() < self.names_max {
            known.by_name.insert(name.into(), (answer.clone(), until));
        }
    }
}

impl Known {
    fn sweep(&mut self, now: Instant) {
        if self.swept.is_none_or(|swept| now >= swept + SWEEP_EVERY) {
            self.swept = Some(now);
            self.by_name.retain(|_, (_, until)| now < *until);
        }
    }
}

impl fmt::Debug for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Answers")
            .field("names_max", &self.names_max)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn one() -> Answer {
        Ok([IpAddr::from([192, 0, 2, 1])].into())
    }

    #[test]
    fn an_answer_is_used_until_its_time_and_replaced_by_a_newer_one() {
        let (answers, now) = (Answers::new(2), Instant::now());
        answers.learn("a", &one(), now, now + SECOND);
        assert_eq!(answers.find("a", now), Some(one()));
        assert_eq!(answers.find("a", now + SECOND), None);
        let gone = Err(ResolveError::NameUnknown);
        answers.learn("a", &gone, now, now + 2 * SECOND);
        assert_eq!(answers.find("a", now + SECOND), Some(gone));
    }

    #[test]
    fn a_full_cache_keeps_what_it_has_until_that_is_past_its_time() {
        let (answers, now) = (Answers::new(2), Instant::now());
        answers.learn("a", &one(), now, now + SECOND);
        answers.learn("b", &one(), now, now + 60 * SECOND);
        answers.learn("c", &one(), now, now + 60 * SECOND);
        assert_eq!(answers.find("c", now), None);
        let later = now + SWEEP_EVERY;
        answers.learn("c", &one(), later, later + SECOND);
        assert_eq!(answers.find("c", later), Some(one()));
        assert_eq!(answers.find("b", later), Some(one()));
    }
}
