//! Which images a release will surely need, read from its sources before Compose has translated them, so that their download
//! begins at once and not a tenth of a second later. Pure. What it misses is fetched later all the same; it names only digests,
//! and only of services that no profile switches off.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

/// The images by digest of the services that are enabled, from all documents of the sources in merge order.
pub fn of(documents: &[Value], profiles: &[String]) -> BTreeSet<String> {
    let mut images: BTreeMap<&str, &str> = BTreeMap::new();
    let mut off: BTreeSet<&str> = BTreeSet::new();
    let services = documents.iter().filter_map(|document| document.get("services")?.as_object()).flatten();
    for (name, service) in services {
        if let Some(image) = service.get("image").and_then(Value::as_str) {
            images.insert(name, image);
        }
        let wanted = service.get("profiles").and_then(Value::as_array);
        if wanted.is_some_and(|wanted| !wanted.iter().any(|p| profiles.iter().any(|on| p.as_str() == Some(on)))) {
            off.insert(name);
        }
    }
    images.retain(|name, image| !off.contains(name) && image.contains("@sha256:") && !image.contains('$'));
    images.into_values().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_will_run_here_and_stands_still() {
        let documents = crate::raw_policy::parse_documents(
            "services:\n  a: {image: 'r/a:1'}\n  b: {image: 'r/b@sha256:1', profiles: [edge]}\n  c: {image: 'r/c:1'}\n  \
             d: {image: '${D}@sha256:4'}\n---\nservices:\n  a: {image: 'r/a@sha256:1'}\n",
        )
        .unwrap();
        assert_eq!(of(&documents, &[]), BTreeSet::from(["r/a@sha256:1".to_owned()]));
        assert_eq!(of(&documents, &["edge".to_owned()]).len(), 2);
    }
}
