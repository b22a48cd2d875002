//! The Engine's events on a real Engine: what happened before the stream was open is told too.

use std::path::Path;
use std::time::Duration;

use landfall_agent::clock::now;
use landfall_agent::engine::Engine;
use landfall_core::command::Command;
use tokio::sync::mpsc;

const IMAGE: &str = "landfall-events-test:empty";
const PROJECT: &str = "landfall-events-test";

async fn docker(arguments: &[&str]) -> String {
    let output = Command::new("/usr/bin/docker").args(arguments).deadline(Duration::from_mins(1)).run().await.unwrap();
    assert!(output.success(), "docker {arguments:?}: {}", output.stderr);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

async fn create() -> String {
    let label = format!("com.docker.compose.project={PROJECT}");
    docker(&["create", "--label", &label, IMAGE, "/nothing"]).await
}

#[tokio::test]
async fn what_happened_between_the_time_named_and_the_subscription_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let archive = directory.path().join("empty.tar");
    // Two blocks of zeros: the end of an archive without members.
    std::fs::write(&archive, [0; 1024]).unwrap();
    docker(&["import", archive.to_str().unwrap(), IMAGE]).await;
    let engine = Engine::new(Path::new("/var/run/docker.sock")).unwrap();

    let too_early = create().await;
    let at = now();
    let before = create().await;
    let (sender, mut told) = mpsc::unbounded_channel();
    let follow = engine.events(at, |project, id| {
        if project == PROJECT {
            sender.send(id).unwrap();
        }
    });
    let look = async {
        let first = told.recv().await.unwrap();
        let after = create().await;
        let second = told.recv().await.unwrap();
        (first, second, after)
    };
    let (first, second, after) = tokio::select! {
        ended = follow => panic!("the stream ended: {ended:?}"),
        seen = tokio::time::timeout(Duration::from_secs(30), look) => seen.expect("both are told"),
    };
    assert_eq!(first, before, "{too_early} is older than the time named");
    assert_eq!(second, after);
    for id in [too_early, before, after] {
        docker(&["rm", &id]).await;
    }
    docker(&["rmi", IMAGE]).await;
}
