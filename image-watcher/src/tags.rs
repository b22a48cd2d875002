//! A set of image tags that move one by one: CI pushes three images, and for a moment the tags of two are new and one is old.
//! A set is taken when every tag has pointed at the same thing for a while, or when all images say that they were built from the
//! same revision. Pure: time comes in, the edge ([`crate::follow_tags`]) asks the registries.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;
use landfall_core::config::Channel;
use landfall_core::contract::{FORMAT, StagedRelease, StagedSource};
use landfall_core::ids::{AppName, Digest, ReleaseId, printable, release_id_of_images};

use crate::release::Staging;

/// How long every tag must have pointed at the same thing (design section 4).
pub const QUIET: Duration = Duration::from_secs(5);
/// The label (or annotation) by which an image says what it was built from (OCI image specification).
pub const REVISION: &str = "org.opencontainers.image.revision";
/// How much of a revision is looked at.
const REVISION_LENGTH: usize = 200;
/// What the release's record says of where it came from.
const TAGS: &str = "io.landfall.tags";

/// What each tag points at, and since when.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    tags: BTreeMap<Channel, Pointed>,
}

#[derive(Debug, Clone)]
struct Pointed {
    digest: Digest,
    since: Timestamp,
    /// From the image; none where it says nothing, or was not asked.
    revision: Option<String>,
}

/// What each service would run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Set {
    /// By service.
    pub images: BTreeMap<String, (Channel, Digest)>,
    /// When the tag that moved last was first seen there.
    pub since: Timestamp,
    /// What all images say that they were built from, where they agree.
    pub revision: Option<String>,
}

impl Seen {
    /// A poll has found this digest at a tag. True where that is news.
    pub fn note(&mut self, tag: &Channel, digest: Digest, now: Timestamp) -> bool {
        if self.tags.get(tag).is_some_and(|pointed| pointed.digest == digest) {
            return false;
        }
        self.tags.insert(tag.clone(), Pointed { digest, since: now, revision: None });
        true
    }

    /// What the image at a tag says that it was built from.
    pub fn note_revision(&mut self, tag: &Channel, revision: Option<&str>) {
        if let Some(pointed) = self.tags.get_mut(tag) {
            pointed.revision = revision.filter(|text| !text.is_empty()).map(|text| printable(text, REVISION_LENGTH));
        }
    }

    /// Forgets tags that nobody follows any more.
    pub fn keep(&mut self, followed: &BTreeSet<Channel>) {
        self.tags.retain(|tag, _| followed.contains(tag));
    }

    /// The set of these services; none before each of their tags was seen.
    pub fn set(&self, followed: &BTreeMap<String, Channel>) -> Option<Set> {
        let pointed = followed.values().map(|tag| self.tags.get(tag)).collect::<Option<Vec<_>>>()?;
        let since = pointed.iter().map(|one| one.since).max()?;
        let first = pointed.first()?.revision.clone();
        let agree = pointed.iter().all(|one| one.revision == first);
        let images = followed.iter().zip(&pointed);
        let images = images.map(|((service, tag), one)| (service.clone(), (tag.clone(), one.digest.clone())));
        Some(Set { images: images.collect(), since, revision: first.filter(|_| agree) })
    }
}

impl Set {
    /// Its identity as a release.
    pub fn release(&self) -> ReleaseId {
        release_id_of_images(self.images.iter().map(|(service, (_, digest))| (service.as_str(), digest)))
    }

    /// How long to wait until it may be taken: nothing where it is whole by its revisions or by a single tag.
    pub fn wait(&self, now: Timestamp) -> Duration {
        let tags: BTreeSet<&Channel> = self.images.values().map(|(tag, _)| tag).collect();
        if tags.len() < 2 || self.revision.is_some() {
            return Duration::ZERO;
        }
        // A clock that was set back makes a moment of it, not an hour.
        let quiet_for = Duration::try_from(now.duration_since(self.since)).unwrap_or(Duration::ZERO);
        QUIET.saturating_sub(quiet_for)
    }

    /// As it is laid down: like a pointer document that nobody wrote.
    pub fn staging(&self, app: &AppName) -> Staging {
        let images = self.images.iter().map(|(service, (tag, digest))| (service.clone(), tag.pinned(digest)));
        let tags: Vec<String> = self.images.iter().map(|(service, (tag, _))| format!("{service}={tag}")).collect();
        let mut provenance = BTreeMap::from([(TAGS.to_owned(), tags.join(" "))]);
        provenance.extend(self.revision.clone().map(|revision| (REVISION.to_owned(), revision)));
        let source = StagedSource::Pointer { images: images.collect() };
        let record = StagedRelease { format: FORMAT, app: app.clone(), release: self.release(), source, provenance };
        Staging { record, tree: Vec::new(), content: Vec::new() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tag(image: &str) -> Channel {
        format!("r.example/{image}:staging").parse().unwrap()
    }

    fn followed(services: &[(&str, &str)]) -> BTreeMap<String, Channel> {
        services.iter().map(|(service, image)| ((*service).to_owned(), tag(image))).collect()
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_900_000_000 + seconds).unwrap()
    }

    #[test]
    fn a_set_is_whole_when_all_tags_have_been_quiet() {
        let services = followed(&[("api", "api"), ("job", "api"), ("web", "web")]);
        let mut seen = Seen::default();
        seen.note(&tag("api"), Digest::of(b"api1"), at(0));
        assert_eq!(seen.set(&services), None, "one tag was not seen yet");
        seen.note(&tag("web"), Digest::of(b"web1"), at(2));
        let set = seen.set(&services).unwrap();
        assert_eq!([2, 4, 7, 100, -50].map(|now| set.wait(at(now)).as_secs()), [5, 3, 0, 0, 5]);
        assert!(!seen.note(&tag("web"), Digest::of(b"web1"), at(3)), "the same again is no news");
        assert!(seen.note(&tag("api"), Digest::of(b"api2"), at(6)), "and it begins anew");
        assert_eq!(seen.set(&services).unwrap().wait(at(7)).as_secs(), 4);
    }

    #[test]
    fn images_of_one_revision_need_not_be_quiet() {
        let services = followed(&[("api", "api"), ("web", "web")]);
        let mut seen = Seen::default();
        for (image, revision) in [("api", "c0ffee"), ("web", "c0ffee")] {
            seen.note(&tag(image), Digest::of(image.as_bytes()), at(0));
            seen.note_revision(&tag(image), Some(revision));
        }
        assert_eq!(seen.set(&services).unwrap().wait(at(0)), Duration::ZERO);
        for other in [Some("decaf"), Some(""), None] {
            seen.note_revision(&tag("web"), other);
            assert_eq!(seen.set(&services).unwrap().wait(at(0)), QUIET, "{other:?}");
        }
        seen.note_revision(&tag("api"), None);
        assert_eq!(seen.set(&services).unwrap().wait(at(0)), QUIET, "two that say nothing do not agree");
        let one = followed(&[("api", "api"), ("job", "api")]);
        assert_eq!(seen.set(&one).unwrap().wait(at(0)), Duration::ZERO, "one tag cannot be half a set");
    }

    #[test]
    fn its_identity_is_that_of_a_pointer_document_with_the_same_images() {
        let services = followed(&[("api", "api")]);
        let mut seen = Seen::default();
        let digest = Digest::of(b"api");
        seen.note(&tag("api"), digest.clone(), at(0));
        let staging = seen.set(&services).unwrap().staging(&"web".parse().unwrap());
        assert_eq!(staging.record.release, release_id_of_images([("api", &digest)]));
        let StagedSource::Pointer { images } = staging.record.source else { panic!("no images") };
        assert_eq!(images["api"], format!("r.example/api@{digest}"));
        assert_eq!(staging.record.provenance[TAGS], "api=r.example/api:staging");
        seen.keep(&BTreeSet::new());
        assert_eq!(seen.set(&services), None);
    }
}
