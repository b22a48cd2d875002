//! `landfall promote`, and `landfall publish --from`: what one channel has becomes the newest release of another, byte for byte.
//! Only the annotations that say where and when are new, so it is the same release: the VM knows it again, and a sequence that
//! goes up is what lets it be taken, also where it is older content.

use landfall_core::config::Channel;
use landfall_core::ids::Digest;
use serde_json::{Value, json};

use crate::arguments::Promote;
use crate::failure::{Exit, Failed};
use crate::published::Published;
use crate::wait::{self, Waiter};
use crate::{identity, publish, terminal};

const CHANNEL: &str = "io.landfall.channel";
const SEQUENCE: &str = "io.landfall.sequence";
/// It limited the first publication, not this one.
const NOT_AFTER: &str = "io.landfall.not-after";
/// Where it came from, for people.
const PROMOTED_FROM: &str = "io.landfall.promoted-from";

/// `landfall promote`.
pub async fn run(arguments: &Promote) -> Result<Exit, Failed> {
    let Promote { from, to, plain_http, json, wait } = arguments;
    let waiter = Waiter::new(wait, publish::variable)?;
    copy(from, to, *plain_http, *json, waiter).await
}

/// Copies what is at `from` to `to`, and prints the release id and the digest.
pub async fn copy(
    from: &Channel,
    to: &Channel,
    plain_http: bool,
    json: bool,
    waiter: Option<Waiter>,
) -> Result<Exit, Failed> {
    let mut registries = publish::registries(to, plain_http)?;
    let published = Published::read(&mut registries, from).await?;
    let mut blobs = Vec::with_capacity(published.blobs.len());
    for remote in &published.blobs {
        if !remote.title.is_empty() {
            eprintln!("  {}", remote.title);
        }
        blobs.push(remote.fetch(&mut registries, from).await?);
    }
    // The first is the config.
    let contents = blobs.get(1..).unwrap_or_default();
    let release = identity::of_manifest(&published.manifest, contents).ok_or_else(|| {
        Failed::usage(format!("`{from}` is no release that a machine would take"))
            .next("name a channel that `landfall publish`, `oras push` or `docker compose publish` wrote")
    })?;
    let now = jiff::Timestamp::now();
    let sequence = publish::sequence(now);
    let manifest = readdressed(published.manifest, from, &published.digest, to, sequence);
    let digest = Digest::of(&manifest);
    publish::push(&mut registries, to, blobs, &manifest, &digest).await?;
    if json {
        let said = json!({ "channel": to, "release": release, "digest": digest, "sequence": sequence, "from": from, "from_digest": published.digest });
        terminal::out(&format!("{said}\n"));
    } else {
        terminal::out(&format!("release {release}\ndigest {digest}\n"));
    }
    eprintln!("promoted {from} to {to}");
    match waiter {
        Some(waiter) => waiter.wait(&wait::Publication { release, sequence, at: now }, json).await,
        None => Ok(Exit::Done),
    }
}

fn readdressed(mut manifest: Value, from: &Channel, digest: &Digest, to: &Channel, sequence: u64) -> Vec<u8> {
    if !manifest["annotations"].is_object() {
        manifest["annotations"] = json!({});
    }
    if let Some(annotations) = manifest["annotations"].as_object_mut() {
        annotations.remove(NOT_AFTER);
        annotations.insert(CHANNEL.to_owned(), json!(to));
        annotations.insert(SEQUENCE.to_owned(), json!(sequence.to_string()));
        annotations.insert(PROMOTED_FROM.to_owned(), json!(format!("{from}@{digest}")));
    }
    manifest.to_string().into_bytes()
}
