//! The files between daemons: one JSON object each, with `format` and `app`. Readers ignore unknown fields; a higher
//! format is "wait for the newer program"; a garbled file means "keep what I had", never "absent".

use std::collections::BTreeMap;
use std::path::Path;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::Channel;
use crate::ids::{AppName, Digest, ReleaseId};
use crate::secrets::SecretNeed;

/// The format number that this version writes and reads.
pub const FORMAT: u32 = 1;

/// What became of reading a contract file.
#[derive(Debug)]
pub enum Read<T> {
    /// It is there and valid.
    Found(T),
    /// There is no such file.
    Absent,
    /// Written by a newer program: wait, do not guess.
    NewerFormat(u32),
    /// Torn, garbled or unreadable, with the reason: keep what you had.
    Garbled(String),
}

/// Reads a contract file.
pub fn read<T: DeserializeOwned>(path: &Path) -> Read<T> {
    let bytes = match std::fs::read(path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Read::Absent,
        Err(error) => return Read::Garbled(format!("{}: {error}", path.display())),
    };
    match parse(&bytes) {
        Read::Garbled(why) => Read::Garbled(format!("{}: {why}", path.display())),
        other => other,
    }
}

/// Parses the bytes of a contract file; never answers [`Read::Absent`].
pub fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Read<T> {
    #[derive(Deserialize)]
    struct Head {
        format: u32,
    }
    match serde_json::from_slice::<Head>(bytes) {
        Ok(head) if head.format > FORMAT => return Read::NewerFormat(head.format),
        Ok(_) => {}
        Err(error) => return Read::Garbled(error.to_string()),
    }
    match serde_json::from_slice(bytes) {
        Ok(value) => Read::Found(value),
        Err(error) => Read::Garbled(error.to_string()),
    }
}

/// `channels/<app>.json`: the watcher's word on a channel.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelFile {
    /// [`FORMAT`].
    pub format: u32,
    /// Whose channel.
    pub app: AppName,
    /// The reference that is followed, `registry/repository:tag`.
    pub channel: String,
    /// The newest accepted and fully staged release; absent before the first.
    pub release: Option<ReleaseId>,
    /// The manifest digest that `release` was taken from.
    pub digest: Option<Digest>,
    /// `io.landfall.sequence` of that manifest, unix milliseconds by convention.
    pub sequence: Option<u64>,
    /// When that manifest was first seen by this watcher (RFC 3339, UTC, milliseconds).
    pub detected_at: Option<String>,
    /// The last poll that got a valid answer.
    pub last_good_poll: Option<String>,
    /// Why the newest thing at the channel was not taken or could not be read; cleared by the next good poll.
    pub problem: Option<String>,
    /// The tags that `release` was taken from, by service: the [`WantedFile::tags`] that this answers. Empty but for image tags.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, Channel>,
}

/// `releases/<app>/<ReleaseId>/release.json`: what lies beside it, all verified.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedRelease {
    /// [`FORMAT`].
    pub format: u32,
    /// Whose release.
    pub app: AppName,
    /// The directory's own name.
    pub release: ReleaseId,
    /// What kind it is and what belongs to it.
    pub source: StagedSource,
    /// `org.opencontainers.image.*` and `io.landfall.*` annotations of the manifest, for people; not in the identity.
    pub provenance: BTreeMap<String, String>,
}

/// The content of a staged release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "kind")]
pub enum StagedSource {
    /// A bundle. `compose/<n>.yaml` are the compose documents; `project/` is the project directory with extends, env and file layers at their titles.
    Bundle {
        /// File names below `compose/`, in merge order.
        compose: Vec<String>,
        /// File layers: also below `files/` by content.
        files: Vec<StagedFile>,
    },
    /// A pointer document, or a set of tags: images by service; the compose file is on the VM.
    Pointer {
        /// Service to `repository@sha256:…` reference.
        images: BTreeMap<String, String>,
    },
}

/// A file of a bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagedFile {
    /// Relative path in the project, `/` separated, no `.` or `..`.
    pub title: String,
    /// True for mode 0755 (0555 on disk), false for 0644 (0444 on disk).
    pub executable: bool,
    /// Of the content.
    pub digest: Digest,
}

impl StagedFile {
    /// The directory name under `files/` that holds this content with this mode.
    pub fn content_dir(&self) -> String {
        format!("{}{}", self.digest.hex(), if self.executable { "-x" } else { "" })
    }

    /// The last part of the title: the name below [`Self::content_dir`].
    pub fn name(&self) -> &str {
        self.title.rsplit('/').next().unwrap_or(&self.title)
    }
}

/// `previews/<entry>.json`: which tags of an entry of `previews` have an app. A tag that is not in it (any more) has none: the
/// watcher takes one out only when it has been gone for a day while the registry answered, or when its time is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewsFile {
    /// [`FORMAT`].
    pub format: u32,
    /// Which entry.
    pub entry: AppName,
    /// The pattern that was followed last.
    pub channel: String,
    /// How long a preview stays after its last publication, milliseconds: kept for when the entry is gone.
    pub ttl_ms: u64,
    /// The last time that the registry gave all tags (RFC 3339).
    pub listed_at: Option<String>,
    /// Why the registry did not.
    pub problem: Option<String>,
    /// By tag.
    pub tags: BTreeMap<String, PreviewTag>,
}

/// One tag of [`PreviewsFile`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PreviewTag {
    /// Where it is.
    pub channel: Channel,
    /// Its last publication, as far as is known, or when it was first seen (RFC 3339).
    pub published: String,
    /// How long it has been missing while the registry answered, milliseconds.
    #[serde(default)]
    pub missing_ms: u64,
    /// Set when its time is over: it has no app, until it points at something else than this manifest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub over: Option<Digest>,
}

/// `wanted/<app>.json`: what the agent asks of the other daemons.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WantedFile {
    /// [`FORMAT`].
    pub format: u32,
    /// Who wants it.
    pub app: AppName,
    /// Releases still in use: the watcher deletes none of these.
    pub releases: Vec<ReleaseId>,
    /// Raised for a poll now.
    pub poll: u64,
    /// Tags to follow, by service; see [`ChannelFile::tags`].
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, Channel>,
    /// What services need of vaults: of the newest release without versions, of what runs or is kept with them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub secrets: Vec<SecretNeed>,
    /// By live directory (see [`SecretNeed::live`]): the set that containers shall see in it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub live: BTreeMap<String, String>,
    /// sha256 of this content without this field; an answer repeats it.
    pub request: String,
}
