//! The start-up order of a deployment: dependencies first, and among those that are ready the one with the longest
//! chain behind it. Total: a cycle (preflight refuses them) is appended by name rather than lost.

use std::collections::{BTreeMap, BTreeSet};

use crate::spec::Deployment;

/// Service names, each after all it depends on.
pub fn start_order(deployment: &Deployment) -> Vec<&str> {
    let weights = chain_lengths(deployment);
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

/// How many services stand one behind the other after each.
fn chain_lengths(deployment: &Deployment) -> BTreeMap<&str, usize> {
    let mut lengths: BTreeMap<&str, usize> = deployment.services.keys().map(|n| (n.as_str(), 0)).collect();
    // Longest path by relaxation: at most as many rounds as there are services, also where there is a cycle.
    for _ in 0..deployment.services.len() {
        let mut changed = false;
        for (name, spec) in &deployment.services {
            let through = lengths.get(name.as_str()).copied().unwrap_or(0) + 1;
            for edge in &spec.depends_on {
                if let Some(length) = lengths.get_mut(edge.service.as_str())
                    && *length < through
                    && through < deployment.services.len()
                {
                    *length = through;
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
