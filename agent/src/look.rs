//! What is seen of an app, kept fresh by Engine events: only containers that something happened to are looked at again,
//! and all of them after a gap and every half minute. An idle app costs no call.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::Result;
use landfall_core::ids::AppName;

use crate::engine::Engine;
use crate::observed::Observed;

/// Events can be lost; what was seen is never older than this.
const OLDEST: Duration = Duration::from_secs(30);

/// The cached sight of one app.
#[derive(Debug)]
pub struct Look {
    app: AppName,
    seen: Observed,
    whole_at: Option<Instant>,
    touched: BTreeSet<String>,
}

impl Look {
    /// Nothing seen yet.
    pub fn new(app: AppName) -> Self {
        Self { app, seen: Observed::default(), whole_at: None, touched: BTreeSet::new() }
    }

    /// Something happened to this container.
    pub fn touch(&mut self, id: String) {
        self.touched.insert(id);
    }

    /// All of it is to be looked at again.
    pub fn forget(&mut self) {
        self.whole_at = None;
    }

    /// What was there at the last look.
    pub fn last(&self) -> &Observed {
        &self.seen
    }

    /// What is there now, after containers were created: those that were not known are looked at, and no others again.
    pub async fn find_new(&mut self, engine: &Engine) -> Result<&Observed> {
        if self.whole_at.is_some() {
            let ids = engine.list(&self.app).await?;
            self.seen.containers.retain(|id, _| ids.contains(id));
            self.touched.extend(ids.into_iter().filter(|id| !self.seen.containers.contains_key(id)));
        }
        self.fresh(engine).await
    }

    /// What is there now.
    pub async fn fresh(&mut self, engine: &Engine) -> Result<&Observed> {
        let whole = self.whole_at.is_some_and(|at| at.elapsed() < OLDEST);
        if whole {
            while let Some(id) = self.touched.first().cloned() {
                match engine.look_at(&id, &self.app).await? {
                    Some(container) => self.seen.containers.insert(id.clone(), container),
                    None => self.seen.containers.remove(&id),
                };
                self.touched.remove(&id);
            }
        } else {
            self.touched.clear();
            self.seen = engine.observe(&self.app).await?;
            self.whole_at = Some(Instant::now());
        }
        Ok(&self.seen)
    }
}
