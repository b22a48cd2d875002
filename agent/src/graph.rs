//! Who waits for whom: edges between enabled services, shared namespaces, cycles. Pure. Only edges to services that run
//! here survive: the canonical project keeps those to services whose profile is off.

use std::collections::{BTreeMap, BTreeSet};

use crate::model::Service;
use crate::reading::Reading;
use crate::refusal::{Problem, Rule};
use crate::spec::{Condition, Dependency};

/// Whose namespaces a service shares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shared {
    /// The service that has them.
    pub owner: String,
    /// `network_mode`, `ipc` and `pid`, those that it shares.
    pub keys: Vec<String>,
}

/// The edges of a service, sorted by name, and whose namespace it shares.
pub fn edges(
    service: &Service,
    enabled: &BTreeSet<&str>,
    reading: &mut Reading<'_>,
) -> (Vec<Dependency>, Option<Shared>) {
    let mut edges: BTreeMap<&str, Dependency> = BTreeMap::new();
    for (name, edge) in &service.depends_on {
        let condition = match edge.condition.as_deref() {
            None | Some("service_started") => Condition::Started,
            Some("service_healthy") => Condition::Healthy,
            Some("service_completed_successfully") => Condition::Completed,
            Some(other) => {
                reading.problem(Rule::BadValue, &format!("depends_on.{name}"), format!("the condition `{other}`"));
                Condition::Started
            }
        };
        if enabled.contains(name.as_str()) {
            edges.insert(name, Dependency { service: name.clone(), condition, restart: edge.restart });
        }
    }
    let mut shared: Option<Shared> = None;
    for (key, mode) in [("network_mode", &service.network_mode), ("ipc", &service.ipc), ("pid", &service.pid)] {
        let Some(owner) = mode.as_deref().and_then(|mode| mode.strip_prefix("service:")) else { continue };
        if !enabled.contains(owner) {
            reading.problem(Rule::BadValue, key, format!("`{owner}` does not run here"));
            continue;
        }
        if shared.as_ref().is_some_and(|other| other.owner != owner) {
            reading.problem(Rule::NotSupported, key, "namespaces of two different services");
        }
        let edge = Dependency { service: owner.to_owned(), condition: Condition::Started, restart: true };
        edges.entry(owner).or_insert(edge);
        let shared = shared.get_or_insert_with(|| Shared { owner: owner.to_owned(), keys: Vec::new() });
        shared.keys.push(key.to_owned());
    }
    (edges.into_values().collect(), shared)
}

/// Docker joins a container's namespace only if that container has it for itself.
pub fn chained_namespaces(shared: &BTreeMap<&str, &Shared>) -> Vec<Problem> {
    let chained = shared.iter().filter_map(|(service, with)| {
        let next = shared.get(with.owner.as_str())?;
        let key = with.keys.iter().find(|key| next.keys.contains(key))?;
        let what = format!("`{}` itself shares that of `{}`", with.owner, next.owner);
        Some(Problem::new(Rule::BadValue, format!("{service}.{key}"), what))
    });
    chained.collect()
}

/// A cycle, if there is one, as `a -> b -> a`.
pub fn cycle(edges: &BTreeMap<&str, &[Dependency]>) -> Option<Problem> {
    let mut done = BTreeSet::new();
    for start in edges.keys() {
        let mut path = Vec::new();
        if let Some(found) = walk(start, edges, &mut path, &mut done) {
            return Some(Problem::new(Rule::Cycle, "depends_on", found.join(" -> ")));
        }
    }
    None
}

fn walk<'a>(
    at: &'a str,
    edges: &BTreeMap<&'a str, &'a [Dependency]>,
    path: &mut Vec<&'a str>,
    done: &mut BTreeSet<&'a str>,
) -> Option<Vec<&'a str>> {
    if let Some(start) = path.iter().position(|seen| *seen == at) {
        let mut cycle = path[start..].to_vec();
        cycle.push(at);
        return Some(cycle);
    }
    if !done.insert(at) {
        return None;
    }
    path.push(at);
    for edge in edges.get(at).copied().unwrap_or_default() {
        if let Some(found) = walk(&edge.service, edges, path, done) {
            return Some(found);
        }
    }
    path.pop();
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cycle_is_named_from_its_first_service() {
        let edge = |service: &str| {
            vec![Dependency { service: service.to_owned(), condition: Condition::Started, restart: false }]
        };
        let (a, b, c) = (edge("b"), edge("c"), edge("b"));
        let edges = BTreeMap::from([("a", &a[..]), ("b", &b[..]), ("c", &c[..])]);
        assert_eq!(cycle(&edges).unwrap().what, "b -> c -> b");
        let straight = BTreeMap::from([("a", &a[..]), ("b", &b[..]), ("c", &[][..])]);
        assert_eq!(cycle(&straight), None);
        let own = edge("a");
        assert_eq!(cycle(&BTreeMap::from([("a", &own[..])])).unwrap().what, "a -> a");
    }
}
