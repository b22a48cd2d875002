//! What a release would change, in words, in the order it would happen. Pure.

use std::collections::BTreeMap;

use landfall_core::protocol::PlanView;

use crate::order::start_order;
use crate::spec::{Deployment, Order};
use crate::startups::Startups;
use crate::state::Generation;

/// The plan from what runs to a deployment, with what Compose warned of.
pub fn view(live: Option<&Generation>, next: &Deployment, warnings: Vec<String>) -> PlanView {
    let mut steps = Vec::new();
    let old = live.map(|g| &g.deployment);
    let networks =
        |d: &Deployment| d.networks.iter().map(|(name, n)| (n.key.clone(), name.clone())).collect::<BTreeMap<_, _>>();
    let old_networks = old.map(networks).unwrap_or_default();
    for (key, name) in networks(next) {
        if old_networks.get(&key).is_some_and(|before| *before != name) {
            steps.push(format!(
                "make network `{name}` in place of `{}` (`{key}` changed): all services on it are replaced",
                old_networks[&key]
            ));
        }
    }
    for service in start_order(next, &Startups::default()) {
        let Some(spec) = next.services.get(service) else { continue };
        let image = spec.image.rsplit_once(':').map_or(spec.image.as_str(), |(_, hex)| &hex[..hex.len().min(12)]);
        match old.and_then(|o| o.services.get(service)) {
            None => steps.push(format!("start `{service}` (new, image {image})")),
            Some(before) if before.spec != spec.spec || before.replicas != spec.replicas => {
                let how = match spec.order {
                    Order::StopFirst => "old one stopped first",
                    Order::StartFirst => "new one started first",
                };
                let what = if before.image == spec.image {
                    "same image, other settings".to_owned()
                } else {
                    format!("image {image}")
                };
                steps.push(format!("replace `{service}` ({what}, {how})"));
            }
            Some(_) => {}
        }
    }
    for service in old.into_iter().flat_map(|o| o.services.keys()).filter(|s| !next.services.contains_key(*s)) {
        steps.push(format!("stop `{service}` (no longer in the release)"));
    }
    PlanView { release: next.release.clone(), deployment: next.id.clone(), steps, warnings }
}
