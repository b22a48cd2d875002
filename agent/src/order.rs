//! The start-up order of a deployment: dependencies first, and among those that are ready the one with the longest
//! chain to the end, by the start-up times of the past. Total: a cycle (preflight refuses them) is appended by name rather than lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::observed::Millis;
use crate::spec::Deployment;
use crate::startups::Startups;

/// Service names, each after all it depends on; the first that is not well is the one that the whole start waits for.
pub fn start_order<'a>(deployment: &'a Deployment, startups: &Startups) -> Vec<&'a str> {
    let weights = chains(deployment, startups);
    let mut placed: BTreeSet<&str> = BTreeSet::new();
    let mut order = Vec::with_capacity(deployment.services.len());
    while order.len() < deployment.services.len() {
        let ready = deployment
            .services
            .iter()
            .filter(|(name, _)| !placed.contains(name.as_str()))
            .filter(|(_, spec)| {
                let edges = spec.depends_on.iter().map(|e| e.service.as_str()).chain(spec.namespace_of.as_deref());
                edges.filter(|s| deployment.services.contains_key(*s)).all(|s| placed.contains(s))
            })
            .map(|(name, _)| name.as_str())
            .max_by_key(|name| (weights.get(name).copied().unwrap_or(0), std::cmp::Reverse(*name)));
        let next = ready.or_else(|| deployment.services.keys().map(String::as_str).find(|n| !placed.contains(n)));
        let Some(name) = next else { break };
        placed.insert(name);
        order.push(name);
    }
    order
}

/// How long each service and the longest chain behind it take to start, milliseconds.
fn chains<'a>(deployment: &'a Deployment, startups: &Startups) -> BTreeMap<&'a str, Millis> {
    let own: BTreeMap<&str, Millis> = deployment.services.keys().map(|n| (n.as_str(), startups.least(n))).collect();
    let mut lengths = own.clone();
    // Longest path by relaxation: at most as many rounds as there are services, also where there is a cycle.
    for _ in 0..deployment.services.len() {
        let mut changed = false;
        for (name, spec) in &deployment.services {
            let through = lengths.get(name.as_str()).copied().unwrap_or(0);
            for edge in &spec.depends_on {
                let Some(with) = own.get(edge.service.as_str()).map(|own| own.saturating_add(through)) else {
                    continue;
                };
                if let Some(length) = lengths.get_mut(edge.service.as_str())
                    && *length < with
                {
                    *length = with;
                    changed = true;
                }
            }
        }
        if !changed {
            break;
        }
    }
    lengths
}
