//! The events that people and alert rules look for, each with a `MESSAGE_ID` that never changes: the journal's catalog and
//! alert rules refer to them. Use as `tracing::info!(MESSAGE_ID = event::ROLLOUT_STARTED, LANDFALL_APP = %app, …)`.

macro_rules! events {
    ($($(#[doc = $doc:literal])* $constant:ident = $id:literal, $name:literal;)*) => {
        $($(#[doc = $doc])* pub const $constant: &str = $id;)*

        /// Every event: its `MESSAGE_ID` and its name.
        pub const ALL: &[(&str, &str)] = &[$(($constant, $name)),*];
    };
}

events! {
    /// The settings were read, or read again after a change.
    SETTINGS_LOADED = "10aa28ddad0f4b4cbf9320f2846ca19e", "settings-loaded";
    /// The settings have a mistake: the last valid ones stay in force.
    SETTINGS_INVALID = "a3050c0f7dd149519172023cc79df302", "settings-invalid";
    /// The watcher found a new release, verified it and laid it down.
    RELEASE_STAGED = "d870f4cd549d441b9a2bdc5246c222b5", "release-staged";
    /// The channel moved, but to content that is staged already.
    RELEASE_REPUBLISHED = "7b98eece295d405b9c3c3061bdfc9e38", "release-republished";
    /// What the channel points at was not taken: wrong, too large, or older than what was seen.
    RELEASE_NOT_ACCEPTED = "af3584193ccf42c5842bb38447935bcc", "release-not-accepted";
    /// A registry does not answer, or not with what was asked for; nothing that runs is touched.
    CHANNEL_UNREACHABLE = "9884c8ca4bcd4fa68fc1fc71efc6feaa", "channel-unreachable";
    /// A registry that was out of reach answers again.
    CHANNEL_REACHABLE = "a1b1bb2224ae497cb1290dba69af842b", "channel-reachable";
    /// The watcher's memory cannot be read: it takes no new release until a person has looked.
    WATCHER_STATE_BROKEN = "0ccf2501065e4f438c235bd1b35268db", "watcher-state-broken";
    /// A new release passed preflight and its first swap is next.
    ROLLOUT_STARTED = "d1ca76e6fc7b4a519328cd3c157970cc", "rollout-started";
    /// A release serves and stayed well over the monitor window.
    ROLLOUT_LIVE = "6ab2936df16642ba9a7cd0ae511b7b97", "rollout-live";
    /// Probation ended: this is what a later failure returns to.
    ROLLOUT_GOOD = "04091042ed384ff791e762808021f1a2", "rollout-good";
    /// A rollout failed and the way back to the last good set has begun; the entry says where and why.
    ROLLBACK_STARTED = "e3e0585337d54fdca89de562b616b562", "rollback-started";
    /// The last good set serves again.
    ROLLED_BACK = "9c0807a42e144dac8d4c107f6b88febe", "rolled-back";
    /// Preflight refused a release; nothing was touched.
    RELEASE_REFUSED = "fc64641e3fb54765a9b60f03b8e5972d", "release-refused";
    /// A release waits for room on the disk: nothing is pulled, nothing was touched.
    WAITS_FOR_DISK = "1f74e8230c654b748f43af839d4e6c82", "waits-for-disk";
    /// A deployment failed after its first swap and is not tried again by itself.
    RELEASE_QUARANTINED = "ebfea0a96feb4620ae50abe0f10d8277", "release-quarantined";
    /// Release changes are frozen until a person has looked, or until the last good set is healthy again.
    HELD = "811593ed45d7478bbcd4d8f1b1b16d57", "held";
    /// Release changes are free again.
    HOLD_ENDED = "8b4b995fa3b94fd380ad26e52ffc9251", "hold-ended";
    /// A new container of a service serves in place of the old.
    SERVICE_REPLACED = "9aaa7555d1f243d0bb1c7615b12fa3ca", "service-replaced";
    /// A container exited, or its health check fails.
    SERVICE_FAILED = "62cdf0ae27544883bcf8a888bcce189d", "service-failed";
    /// The agent started a service again.
    SERVICE_RESTARTED = "2692bb2bac2a44cdb2d90717b6757557", "service-restarted";
    /// What should run was found down and is started in order.
    COLD_START = "dc0209a8abdd4a4c915c7edcda7062f6", "cold-start";
    /// What should run was down and is back.
    RECOVERED = "12a4f360953c4ce18c033efe15038c55", "recovered";
    /// A project that ran before us is now managed.
    ADOPTED = "dd42a6ef17c14b72b8cb24c52c833a3f", "adopted";
    /// A container that no release knows any more was removed.
    ORPHAN_REMOVED = "6cbd51025ba14a87880b0276ee341eae", "orphan-removed";
    /// A person asked for something: hold, resume, hands-off, retry, rollback.
    OPERATOR_INTENT = "30bb6588c25f4be388cd24f1d5f2259e", "operator-intent";
    /// A tag that matches an entry of `previews` has an app now.
    PREVIEW_BEGAN = "5d0c7b2e9a4f4e67b1c8f3a26d905e14", "preview-began";
    /// A preview is gone, with its containers, networks and volumes; the entry says why.
    PREVIEW_ENDED = "c19e64f07b3d4a2f8e55d6029ab7f3c8", "preview-ended";
    /// The Docker Engine does not answer; what runs goes on by itself.
    ENGINE_UNREACHABLE = "b499167b9370465782aab2d9366ac6df", "engine-unreachable";
    /// The Docker Engine answers again.
    ENGINE_REACHABLE = "42de6026ce074367a604a8836826511c", "engine-reachable";
    /// The agent's ledger cannot be read: release changes are held, supervision goes on.
    LEDGER_BROKEN = "c8889ff399874a7cbf45ffb07d1d0359", "ledger-broken";
    /// A service's newest secrets are another set now; the entry has names and versions, never a value.
    SECRETS_ROTATED = "334636f87d8577d015cbddf2158d0bbc", "secrets-rotated";
    /// Secrets that a service needs cannot be had, or for another reason than before; what is laid down stays.
    SECRETS_MISSING = "e1e0f9a5876e3231b4e0b3968de1cc95", "secrets-missing";
    /// Secrets that could not be had are there again.
    SECRETS_BACK = "490a2d74536df85a6553553d3286e20d", "secrets-back";
    /// The vault of secrets that a service needs is out of reach: what was sealed is used, and the entry says of when it is.
    SECRETS_FROM_CACHE = "92720920f3714788921590ae7ecae85c", "secrets-from-cache";
    /// A systemd unit, or somebody in its name, asked for a credential and got none; the entry says why.
    CREDENTIAL_REFUSED = "148bbb310f3149cf96da33efbf90365e", "credential-refused";
    /// Containers that run see other versions of their secrets now, and were told so if the file asks for it.
    SECRETS_SWITCHED = "7a1f5be2c09d4b6f93e8d4167a52bc30", "secrets-switched";
    /// A rotation made a service that sees its secrets live ill: it sees the versions before again.
    ROTATION_TAKEN_BACK = "b8d03e64f71c4a95a2671f9ec05d83e4", "rotation-taken-back";
    /// The data directory of a service was not shut down cleanly; the entry has what is done, and the command that repairs.
    UNCLEAN_SHUTDOWN = "e3a9d26c5f414b0e9d7c18b64f02a5d9", "unclean-shutdown";
    /// A data directory that was not shut down cleanly was repaired.
    REPAIRED = "0b7c4e91d35f4a6683f2e7ad109c5b48", "repaired";
    /// The repair of a data directory failed, and its service waits for a person.
    REPAIR_FAILED = "95f1c8a07e2d4d3ba46b0d8ce713f62a", "repair-failed";
    /// Somebody changed or removed the rules that keep containers from the machine's identity: they are in force again.
    GUARD_RESTORED = "c4f1713aea82cf9fa5ad05157f74da12", "guard-restored";
    /// The disk that volumes lie on is not there, or was not taken: Docker does not start.
    DATA_DISK_NOT_MOUNTED = "9e27b0c4d51f4a38b6c07d2e8f41a953", "data-disk-not-mounted";
    /// A person opened the system's own proxy beside the app's, or gave it more time.
    BREAK_GLASS_ON = "0d126c78d60843b8a8adf9be972f9315", "break-glass-on";
    /// It is closed: by a person, at its time, or because it did not start; the entry says which.
    BREAK_GLASS_OFF = "4099d1d6cff24234b9a6dded3d53990d", "break-glass-off";
}

/// The name of an event, for readers without a catalog.
pub fn name(id: &str) -> Option<&'static str> {
    ALL.iter().find(|(known, _)| *known == id).map(|(_, name)| *name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_are_32_hex_digits_and_each_is_used_once() {
        for (id, name) in ALL {
            assert_eq!(id.len(), 32, "{name}");
            assert!(id.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)), "{name}");
        }
        assert_eq!(ALL.iter().map(|(id, _)| id).collect::<BTreeSet<_>>().len(), ALL.len());
        assert_eq!(ALL.iter().map(|(_, name)| name).collect::<BTreeSet<_>>().len(), ALL.len());
    }

    #[test]
    fn an_event_has_a_name() {
        assert_eq!(name(ROLLED_BACK), Some("rolled-back"));
        assert_eq!(name("0"), None);
    }
}
