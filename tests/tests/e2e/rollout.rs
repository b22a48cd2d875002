//! A release is found, rolled out, replaced by a better one, and a broken one is taken back as a whole.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use landfall_core::protocol::HistoryEvent;
use landfall_tests::prober::Prober;
use landfall_tests::suite::on_a_vm;
use landfall_tests::vm::SOON;
use landfall_tests::wait::eventually;

const PACE: Duration = Duration::from_millis(20);

#[test]
fn what_is_published_is_served() {
    on_a_vm("publish", |vm| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let app = vm.app.as_str();
        for container in vm.engine.containers(app)? {
            ensure!(container.image.contains("@sha256:"), "{} runs `{}`", container.service(), container.image);
            let memory = &vm.engine.inspect(&container.id)?["HostConfig"]["Memory"];
            ensure!(memory == 32 << 20, "{} may use {memory} bytes", container.service());
        }
        let status = vm.status()?;
        ensure!(status.release.as_ref() == Some(&v1.release), "status says release {:?}", status.release);
        let api = status.services.iter().find(|s| s.service == "api").context("status has no api")?;
        ensure!(v1.image.hex().starts_with(&api.image), "status says image {}, published was {}", api.image, v1.image);
        Ok(())
    });
}

#[test]
fn a_new_image_replaces_its_service_and_no_other() {
    on_a_vm("image", |vm| {
        vm.live(&vm.publish_version("v1", &[])?)?;
        let app = vm.app.to_string();
        let before = vm.engine.serving_ids(&app)?;
        let prober = Prober::start(&vm.url(), PACE);
        let start = Instant::now();
        vm.live(&vm.publish_version("v2", &[])?)?;
        let after = vm.engine.serving_ids(&app)?;
        let changed: Vec<&str> =
            before.iter().filter(|(name, id)| after.get(*name) != Some(id)).map(|(n, _)| n.as_str()).collect();
        assert_eq!(changed, ["api"]);
        assert_eq!(prober.versions(start), ["v1", "v2"]);
        let gap = prober.gap(start);
        ensure!(
            gap < Duration::from_secs(3),
            "nothing answered for {} ms; the api takes 500 ms to start",
            gap.as_millis()
        );
        Ok(())
    });
}

#[test]
fn a_changed_bundled_file_replaces_the_service_that_mounts_it_and_no_other() {
    on_a_vm("file", |vm| {
        let v1 = vm.publish_version("v1", &[])?;
        vm.live(&v1)?;
        let app = vm.app.to_string();
        let before = vm.engine.serving_ids(&app)?;
        vm.project.edit("proxy.conf", "X-Site one", "X-Site two")?;
        let release = vm.publish()?;
        vm.recorded(0, HistoryEvent::Live, Some(&release))?;
        eventually(SOON, "the proxy uses its new file", || {
            let site = vm.ask()?.site;
            ensure!(site == "two", "X-Site is `{site}`");
            Ok(())
        })?;
        vm.serves(&v1)?;
        let after = vm.engine.serving_ids(&app)?;
        let changed: Vec<&str> =
            before.iter().filter(|(name, id)| after.get(*name) != Some(id)).map(|(n, _)| n.as_str()).collect();
        assert_eq!(changed, ["proxy"]);
        Ok(())
    });
}

#[test]
fn a_release_that_never_gets_healthy_is_taken_back_and_not_tried_again() {
    on_a_vm("rollback", |vm| {
        vm.live(&vm.publish_version("v1", &[])?)?;
        let v2 = vm.publish_version("v2", &[])?;
        vm.live(&v2)?;
        let app = vm.app.to_string();
        let before = vm.engine.serving_ids(&app)?;
        let seq = vm.last_seq()?;
        let v3 = vm.publish_version("v3", &[("MODE", "never-healthy")])?;
        let back = vm.recorded(seq, HistoryEvent::RolledBack, None)?;
        vm.serves(&v2)?;
        assert_eq!(vm.engine.serving_ids(&app)?, before, "the old containers themselves are started again");
        let failed = vm.recorded(seq, HistoryEvent::RollbackStarted, Some(&v3.release))?;
        let failed = failed.deployment.context("the history names no deployment")?;
        let status = vm.status()?;
        ensure!(status.quarantined.contains_key(&failed), "{failed} is not in quarantine: {:?}", status.quarantined);
        ensure!(status.release.as_ref() == Some(&v2.release), "status says {:?}", status.release);

        // The same content again at a higher sequence is CI's word to try again.
        vm.publish()?;
        vm.recorded(back.seq, HistoryEvent::RolledBack, None)?;
        vm.serves(&v2)?;
        assert_eq!(vm.engine.serving_ids(&app)?, before);

        // And what is better is taken as ever.
        vm.live(&vm.publish_version("v4", &[])?)?;
        Ok(())
    });
}

/// Nothing says of a service that it is meant to end; once something does, as the refusal advises, the release is good.
#[test]
fn a_service_that_ends_well_is_told_how_to_be_a_one_shot() {
    on_a_vm("one-shot", |vm| {
        vm.live(&vm.publish_version("v1", &[])?)?;
        vm.project.edit("compose.yaml", "      migrate: { condition: service_completed_successfully }\n", "")?;
        vm.project.edit("compose.yaml", "SCHEMA: \"1\"", "SCHEMA: \"2\"")?;
        let release = vm.publish()?;
        let failed = vm.recorded(0, HistoryEvent::RollbackStarted, Some(&release))?;
        let why = failed.reason.context("the history says nothing of the cause")?;
        let advice = "x-landfall: { run: when-changed }";
        ensure!(why.contains("`migrate`") && why.contains("exited with code 0") && why.contains(advice), "{why}");
        vm.recorded(failed.seq, HistoryEvent::RolledBack, None)?;

        vm.project.edit("compose.yaml", "    restart: \"no\"\n", &format!("    restart: \"no\"\n    {advice}\n"))?;
        let release = vm.publish()?;
        vm.recorded(0, HistoryEvent::Live, Some(&release)).map(drop)
    });
}

/// With a poll interval of a day, an operator's word is what brings the release.
#[test]
fn a_poll_by_hand_finds_what_the_next_poll_would() {
    on_a_vm("poll-by-hand", |vm| {
        vm.live(&vm.publish_version("v1", &[])?)?;
        vm.configure(&serde_json::json!({ "poll": "24h" }))?;
        eventually(SOON, "both daemons have read the new interval", || {
            let ran = vm.landfall(&["poll"])?;
            ensure!(ran.code == 0, "{ran:?}");
            let log = std::fs::read_to_string(vm.directory().join("landfall-image-watcher.log"))?;
            ensure!(log.matches("the settings are read").count() >= 2, "the watcher has not");
            Ok(())
        })?;
        let v2 = vm.publish_version("v2", &[])?;
        let polled = vm.landfall(&["poll"])?;
        ensure!(polled.code == 0 && polled.stderr.contains("ask the channel now"), "{polled:?}");
        vm.live(&v2).map(drop)
    });
}
