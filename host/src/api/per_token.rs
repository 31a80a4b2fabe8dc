//! A resource that all tokens share, with a bound for each token, so that no token
//! takes all of it.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::{Mutex, MutexGuard};

/// Counts the use of the resource by token. Clones share it.
#[derive(Clone, Debug)]
pub struct PerToken {
    most: u64,
    most_each: u64,
    used: Arc<Mutex<Used>>,
}

#[derive(Debug, Default)]
struct Used {
    all: u64,
    by_token: HashMap<Arc<str>, u64>,
}

/// Why nothing more can be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoMore {
    /// All tokens together use all of it.
    All,
    /// The token uses as much as one token may.
    Own,
}

impl PerToken {
    /// Room for `most` in all, of which one token takes at most `most_each`.
    #[must_use]
    pub fn new(most: u64, most_each: u64) -> Self {
        Self { most, most_each, used: Arc::default() }
    }

    /// Takes `amount` for a token until the result is dropped.
    ///
    /// # Errors
    /// When there is no room, and whether the token itself uses too much.
    pub fn take(&self, token: &Arc<str>, amount: u64) -> Result<Held, NoMore> {
        let mut held = Held { of: self.clone(), token: Arc::clone(token), amount: 0 };
        held.grow(amount)?;
        Ok(held)
    }

    fn lock(&self) -> MutexGuard<'_, Used> {
        self.used.lock()
    }
}

/// The amount that a token holds.
#[derive(Debug)]
pub struct Held {
    of: PerToken,
    token: Arc<str>,
    amount: u64,
}

impl Held {
    /// Takes more.
    ///
    /// # Errors
    /// As [`PerToken::take`]; the held amount stays.
    pub fn grow(&mut self, amount: u64) -> Result<(), NoMore> {
        let mut used = self.of.lock();
        let own = used.by_token.get(&self.token).copied().unwrap_or(0);
        if own.saturating_add(amount) > self.of.most_each {
            return Err(NoMore::Own);
        }
        if used.all.saturating_add(amount) > self.of.most {
            return Err(NoMore::All);
        }
        used.all += amount;
        if amount > 0 {
            used.by_token.insert(Arc::clone(&self.token), own + amount);
        }
        self.amount += amount;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        let mut used = self.of.lock();
        used.all -= self.amount;
        if let Some(own) = used.by_token.get_mut(&self.token) {
            *own -= self.amount;
            if *own == 0 {
                used.by_token.remove(&self.token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_token_takes_all_and_what_is_dropped_is_free_again() {
        let places = PerToken::new(10, 6);
        let (shop, other): (Arc<str>, Arc<str>) = ("shop".into(), "other".into());
        let mut held = places.take(&shop, 5).unwrap();
        assert_eq!(held.grow(2), Err(NoMore::Own));
        held.grow(1).unwrap();
        let rest = places.take(&other, 4).unwrap();
        assert_eq!(places.take(&other, 1).map(drop), Err(NoMore::All));
        drop(held);
        drop(places.take(&other, 2).unwrap());
        drop(rest);
        assert!(places.lock().by_token.is_empty() && places.lock().all == 0);
    }
}
