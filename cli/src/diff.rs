//! `landfall diff`: the project on this disk against what a channel has, before anything is published. For CI: the exit code says
//! whether `landfall publish` would change something.

use std::collections::BTreeMap;

use landfall_core::ids::Digest;
use serde::Deserialize;
use serde_json::json;

use crate::arguments::Publish;
use crate::bundle::{IMAGE_DIGESTS, Layer};
use crate::failure::{Exit, Failed};
use crate::manifest;
use crate::published::{Published, Remote};
use crate::{publish, terminal};

/// By title: media type, mode, and the content's digest.
type Layers = BTreeMap<String, (String, String, Digest)>;

/// `landfall diff`.
pub async fn run(arguments: &Publish) -> Result<Exit, Failed> {
    if arguments.wait.wait_url.is_some() {
        return Err(Failed::usage("`diff` publishes nothing, so there is no outcome to wait for"));
    }
    let channel = &arguments.channel;
    let mut registries = publish::registries(channel, arguments.plain_http)?;
    let (bundle, images) = publish::collect(arguments, &mut registries).await?;
    let published = Published::read(&mut registries, channel).await?;
    let there = match published.layers().iter().find(|layer| layer.title == IMAGE_DIGESTS) {
        Some(layer) => pinned(&layer.fetch(&mut registries, channel).await?),
        None => BTreeMap::new(),
    };
    let files = changes(&theirs(published.layers()), &ours(&bundle.layers));
    let services = changes(&there, &images);
    let different = !files.is_empty() || !services.is_empty();
    if arguments.json {
        let line = |all: &[(char, String)]| all.iter().map(|(sign, what)| format!("{sign} {what}")).collect::<Vec<_>>();
        let said =
            json!({ "channel": channel, "different": different, "files": line(&files), "images": line(&services) });
        terminal::out(&format!("{said}\n"));
    } else {
        for (sign, what) in files
            .iter()
            .map(|(s, w)| (s, format!("file  {w}")))
            .chain(services.iter().map(|(s, w)| (s, format!("image {w}"))))
        {
            terminal::out(&format!("{sign} {what}\n"));
        }
        eprintln!("{channel} {} this project", if different { "differs from" } else { "has" });
    }
    Ok(if different { Exit::Different } else { Exit::Done })
}

/// What was added (`+`), removed (`-`) or changed (`~`), by name.
fn changes<V: PartialEq>(before: &BTreeMap<String, V>, after: &BTreeMap<String, V>) -> Vec<(char, String)> {
    let removed = before.keys().filter(|name| !after.contains_key(*name)).map(|name| ('-', name.clone()));
    let rest = after.iter().filter_map(|(name, value)| match before.get(name) {
        None => Some(('+', name.clone())),
        Some(old) if old != value => Some(('~', name.clone())),
        Some(_) => None,
    });
    removed.chain(rest).collect()
}

fn theirs(layers: &[Remote]) -> Layers {
    let named = layers.iter().filter(|layer| layer.title != IMAGE_DIGESTS);
    named.map(|l| (l.title.clone(), (l.media_type.clone(), l.mode.clone(), l.digest.clone()))).collect()
}

fn ours(layers: &[Layer]) -> Layers {
    let line = |layer: &Layer| {
        let (media_type, mode) = manifest::described(layer);
        (layer.title.clone(), (media_type.to_owned(), mode.to_owned(), Digest::of(&layer.bytes)))
    };
    layers.iter().map(line).collect()
}

/// The images that the document of digests names; it is our own, so what does not parse is a difference.
fn pinned(document: &[u8]) -> BTreeMap<String, String> {
    #[derive(Deserialize)]
    struct Pinned {
        services: BTreeMap<String, Service>,
    }
    #[derive(Deserialize)]
    struct Service {
        image: String,
    }
    let text = String::from_utf8_lossy(document);
    let parsed: Option<Pinned> = serde_saphyr::from_str(&text).ok();
    parsed.map(|p| p.services.into_iter().map(|(name, service)| (name, service.image)).collect()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_changed_is_named_once() {
        let map = |pairs: &[(&str, u8)]| pairs.iter().map(|(k, v)| ((*k).to_owned(), *v)).collect::<BTreeMap<_, _>>();
        let found = changes(&map(&[("a", 1), ("b", 1), ("c", 1)]), &map(&[("a", 1), ("b", 2), ("d", 1)]));
        assert_eq!(found, [('-', "c".to_owned()), ('~', "b".to_owned()), ('+', "d".to_owned())]);
        let document = crate::bundle::image_digests(&BTreeMap::from([("api".to_owned(), "r/a@sha256:00".to_owned())]));
        assert_eq!(pinned(document.as_bytes()), BTreeMap::from([("api".to_owned(), "r/a@sha256:00".to_owned())]));
    }
}
